// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `virtio-loopback list` and `virtio-loopback status`.

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::device_type::DeviceType;
use crate::driver::sysfs::{AlsaCard, CLASS, DeviceFolder};
use crate::driver::{ControlFile, Device, DeviceName, DriverError, State};

/// A device as a user sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
}

impl Report {
    /// Completes what the control file tells by what is below `class` in sysfs.
    fn new(device: Device, class: &Path) -> Self {
        let folder = DeviceFolder::new(class, &device.name);
        let driver = device
            .driver_bound
            .then(|| folder.driver().unwrap_or("yes".into()));
        Self {
            device_id: device.device_id,
            device: DeviceType::of_id(device.device_id).name,
            state: device.state,
            attached: device.attached,
            virtio_device: driver
                .is_some()
                .then(|| format!("virtio{}", device.virtio_index)),
            driver,
            alsa_card: folder.alsa_card(),
            queues: device.queue_count,
            zero_copy: device.zero_copy,
            memory_size: device.memory_size,
            features: device.features,
            driver_features: device.driver_features,
            counters: folder.counters(),
            name: device.name,
        }
    }

    fn card(&self) -> String {
        self.alsa_card.as_ref().map_or("-".into(), |card| {
            format!("{} (hw:{})", card.number, card.id)
        })
    }
}

/// All devices.
///
/// # Errors
/// Of opening the control file, and [`DriverError::List`].
pub fn list() -> Result<Vec<Report>, DriverError> {
    let devices = ControlFile::open()?.list()?;
    Ok(devices
        .into_iter()
        .map(|device| Report::new(device, Path::new(CLASS)))
        .collect())
}

/// One device.
///
/// # Errors
/// As [`list`], and [`DriverError::NoDevice`].
pub fn status(name: &DeviceName) -> Result<Report, DriverError> {
    let device = ControlFile::open()?.find(name)?;
    let device = device.ok_or_else(|| DriverError::NoDevice(name.to_string()))?;
    Ok(Report::new(device, Path::new(CLASS)))
}

/// `list` for people.
pub fn list_table(reports: &[Report]) -> String {
    if reports.is_empty() {
        return "no loopback devices (virtio-loopback run creates one)".into();
    }
    let mut table = table();
    table.set_header(["NAME", "DEVICE", "STATE", "DRIVER", "ALSA CARD", "ADAPTER"]);
    for report in reports {
        table.add_row([
            report.name.clone(),
            format!("{} ({})", report.device, report.device_id),
            report.state.to_string(),
            report.driver.clone().unwrap_or("-".into()),
            report.card(),
            attached(report).into(),
        ]);
    }
    render(table)
}

/// `status` for people.
pub fn status_table(report: &Report) -> String {
    let mut table = table();
    let mut row = |label: &str, value: String| {
        table.add_row([label.to_owned(), value]);
    };
    row("name", report.name.clone());
    row(
        "device",
        format!("{} (virtio device {})", report.device, report.device_id),
    );
    row("state", format!("{} - {}", report.state, explain(report)));
    row("driver", report.driver.clone().unwrap_or("none".into()));
    row(
        "virtio device",
        report.virtio_device.clone().unwrap_or("-".into()),
    );
    if report.device == "sound" {
        row("ALSA card", report.card());
    }
    row("adapter", attached(report).into());
    row("queues", report.queues.to_string());
    row(
        "buffers",
        if report.zero_copy {
            "mapped in place"
        } else {
            "bounced"
        }
        .into(),
    );
    row("memory", format!("{} KiB", report.memory_size / 1024));
    row("features", format!("{:#x}", report.features));
    row("accepted", format!("{:#x}", report.driver_features));
    for (name, value) in &report.counters {
        row(&name.replace('_', " "), value.to_string());
    }
    render(table)
}

fn attached(report: &Report) -> &'static str {
    if report.attached { "attached" } else { "-" }
}

fn explain(report: &Report) -> String {
    match report.state {
        State::Idle if report.driver.is_none() => format!(
            "no driver has taken it ({})",
            DeviceType::of_id(report.device_id).driver_advice()
        ),
        State::Idle => "the driver has not started it".into(),
        State::Starting => "waiting for the device process".into(),
        State::Live => "served".into(),
        State::Quiesced => format!(
            "in use, but no process serves it (virtio-loopback run --name {})",
            report.name
        ),
        State::Stopping => "the driver has reset it".into(),
        State::Dying => "being destroyed, an application has it open".into(),
        State::Unknown => "reported by a newer kernel module".into(),
    }
}

fn render(mut table: Table) -> String {
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.trim_fmt()
}

fn table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
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
        Report::new(device, class.path())
    }

    #[test]
    fn a_list_has_a_line_for_each_device() {
        let text = list_table(&[report(), report()]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let words: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(
            words,
            [
                "music",
                "sound",
                "(25)",
                "live",
                "yes",
                "2",
                "(hw:music)",
                "attached"
            ],
            "{text}"
        );
        assert!(list_table(&[]).contains("no loopback devices"));
    }

    #[test]
    fn a_status_names_card_and_counters() {
        let text = status_table(&report());
        let has = |label: &str, value: &str| {
            text.lines().any(|line| {
                line.trim()
                    .strip_prefix(label)
                    .is_some_and(|rest| rest.trim() == value)
            })
        };
        assert!(has("ALSA card", "2 (hw:music)"), "{text}");
        assert!(has("kicks", "17"), "{text}");
        assert!(has("state", "live - served"), "{text}");
        assert!(has("memory", "1024 KiB"), "{text}");
    }

    #[test]
    fn json_has_plain_names_and_values() {
        let json: serde_json::Value =
            serde_json::from_str(&serde_json::to_string(&report()).unwrap()).unwrap();
        assert_eq!(json["state"], "live");
        assert_eq!(
            json["alsa_card"],
            serde_json::json!({"number": 2, "id": "music"})
        );
        assert_eq!(json["counters"]["kicks"], 17);
        assert_eq!(json["virtio_device"], "virtio3");
        assert_eq!(json["attached"], true);
    }

    #[test]
    fn a_state_says_what_to_do() {
        let mut report = report();
        report.state = State::Quiesced;
        assert!(explain(&report).contains("virtio-loopback run --name music"));
        (report.state, report.driver) = (State::Idle, None);
        assert!(explain(&report).contains("modprobe virtio_snd"));
    }
}
