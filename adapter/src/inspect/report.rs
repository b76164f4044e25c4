// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A device as a user sees it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::stream::Stream;
use crate::device_answer::DeviceAnswer;
use crate::device_type::DeviceType;
use crate::driver::sysfs::{AlsaCard, DeviceFolder};
use crate::driver::{Device, State};

/// A device as a user sees it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Unique among the devices.
    pub name: String,
    /// Virtio device id.
    pub device_id: u32,
    /// Name of the type, if it is known.
    pub device: &'static str,
    /// Where in its life the device is.
    pub state: State,
    /// Whether an adapter is attached.
    pub attached: bool,
    /// The driver that is bound to it.
    pub driver: Option<String>,
    /// Its card, for a sound device.
    pub alsa_card: Option<AlsaCard>,
    /// What to do where no driver is bound to it.
    #[serde(skip)]
    pub driver_advice: String,
    /// Name of the virtio device, if there is one now.
    pub virtio_device: Option<String>,
    /// Number of queues.
    pub queues: u32,
    /// Whether buffers may be mapped in place.
    pub zero_copy: bool,
    /// Bytes of the memory file.
    pub memory_size: u64,
    /// Features offered to the driver.
    pub features: u64,
    /// Features that the driver accepted.
    pub driver_features: u64,
    /// Counters of the kernel module.
    pub counters: BTreeMap<String, u64>,
    /// What its device process says, if it was asked and has a command socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_process: Option<DeviceAnswer>,
}

impl Report {
    /// Completes what the control file tells by what is below `class` and `drivers` in sysfs.
    pub(super) fn new(device: Device, class: &Path, drivers: &Path) -> Self {
        let folder = DeviceFolder::new(class, &device.name);
        let device_type = DeviceType::of_id(device.device_id);
        let driver = device
            .driver_bound
            .then(|| folder.driver().unwrap_or("yes".into()));
        Self {
            device_id: device.device_id,
            device: device_type.name,
            state: device.state,
            attached: device.attached,
            virtio_device: driver
                .is_some()
                .then(|| format!("virtio{}", device.virtio_index)),
            driver,
            driver_advice: device_type.driver_advice(drivers),
            alsa_card: folder.alsa_card(),
            queues: device.queue_count,
            zero_copy: device.zero_copy,
            memory_size: device.memory_size,
            features: device.features,
            driver_features: device.driver_features,
            counters: folder.counters(),
            device_process: None,
            name: device.name,
        }
    }

    /// The streams that its device process tells of.
    pub fn streams(&self) -> Vec<Stream> {
        let answer = self.device_process.as_ref();
        let value = answer.and_then(|answer| answer.answer.as_ref().ok());
        value.map(Stream::all).unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn report() -> Report {
        let device = Device {
            name: "music".into(),
            device_id: 25,
            features: 1 << 32,
            driver_features: 1 << 32,
            memory_size: 1 << 20,
            zero_copy: true,
            queue_count: 4,
            config_size: 12,
            state: State::Live,
            attached: true,
            driver_bound: true,
            virtio_index: 3,
        };
        let class = tempfile::tempdir().unwrap();
        let card = class.path().join("music/virtio3/sound/card2");
        std::fs::create_dir_all(&card).unwrap();
        std::fs::write(card.join("id"), "music\n").unwrap();
        std::fs::write(class.path().join("music/kicks"), "17\n").unwrap();
        std::fs::write(class.path().join("music/restarts"), "1\n").unwrap();
        Report::new(device, class.path(), &class.path().join("drivers"))
    }

    /// The same with a device process that says this.
    pub(in super::super) fn answering(answer: serde_json::Value) -> Report {
        Report {
            device_process: Some(DeviceAnswer {
                socket: "/run/virtio-loopback/music.commands".into(),
                process: Some(77),
                answer: Ok(answer),
            }),
            ..report()
        }
    }

    #[test]
    fn json_has_plain_names_and_values() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["state"], "live");
        assert_eq!(
            json["alsa_card"],
            serde_json::json!({"number": 2, "id": "music"})
        );
        assert_eq!(json["counters"]["kicks"], 17);
        assert_eq!(json["virtio_device"], "virtio3");
        assert_eq!(json["attached"], true);
        assert!(json.get("device_process").is_none(), "nobody was asked");
    }

    #[test]
    fn json_has_the_device_processs_answer_whole() {
        let answer = serde_json::json!({"streams": [{"id": 0, "unheard-of": [1]}], "driver": true});
        let json = serde_json::to_value(answering(answer.clone())).unwrap();
        assert_eq!(json["device_process"]["answer"], answer);
        assert_eq!(json["device_process"]["process"], 77);
    }
}
