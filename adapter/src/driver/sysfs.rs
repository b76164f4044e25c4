// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A device's folder in sysfs: its counters, its driver, and the ALSA card below it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The folder with one folder per loopback device.
pub const CLASS: &str = "/sys/class/virtio-loopback";

/// The folder with one folder per driver of virtio devices.
pub const DRIVERS: &str = "/sys/bus/virtio/drivers";

/// Files that are no counters although they hold a number.
const NO_COUNTERS: &[&str] = &[
    "device_id",
    "vendor_id",
    "features",
    "driver_features",
    "attached",
    "queues",
    "memory_size",
];

/// An ALSA card: N of "hw:N", and the id that "hw:ID" takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlsaCard {
    /// Card number.
    pub number: u32,
    /// Card id.
    pub id: String,
}

/// The folder of one device.
#[derive(Clone, Debug)]
pub struct DeviceFolder {
    path: PathBuf,
}

impl DeviceFolder {
    /// The folder of the device called `name` below `class`, see [`CLASS`].
    pub fn new(class: &Path, name: &str) -> Self {
        Self {
            path: class.join(name),
        }
    }

    /// All counters by name; empty where the folder cannot be read.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        let files = fs::read_dir(&self.path).into_iter().flatten().flatten();
        files
            .filter_map(|file| file.file_name().into_string().ok())
            .filter(|name| !NO_COUNTERS.contains(&name.as_str()))
            .filter_map(|name| Some((read(&self.path.join(&name))?.parse().ok()?, name)))
            .map(|(value, name)| (name, value))
            .collect()
    }

    /// Name of the driver that is bound to the virtio device.
    pub fn driver(&self) -> Option<String> {
        let link = fs::read_link(self.virtio_device()?.join("driver")).ok()?;
        link.file_name()?.to_str().map(str::to_owned)
    }

    /// The ALSA card of a sound device.
    pub fn alsa_card(&self) -> Option<AlsaCard> {
        let (number, card) = numbered(&self.virtio_device()?.join("sound"), "card")?;
        Some(AlsaCard {
            number,
            id: read(&card.join("id"))?,
        })
    }

    /// Device numbers ("116:9") of the files in /dev/snd of a sound device's card. `None` until the last
    /// of them is there, which is that of its controls.
    pub fn alsa_files(&self) -> Option<Vec<String>> {
        let (_, card) = numbered(&self.virtio_device()?.join("sound"), "card")?;
        numbered(&card, "controlC")?;
        let folders = fs::read_dir(card).ok()?.flatten();
        let numbers = folders.filter_map(|folder| read(&folder.path().join("dev")));
        Some(numbers.collect())
    }

    fn virtio_device(&self) -> Option<PathBuf> {
        numbered(&self.path, "virtio").map(|(_, path)| path)
    }
}

/// The file in `folder` whose name is `prefix` and a number.
fn numbered(folder: &Path, prefix: &str) -> Option<(u32, PathBuf)> {
    fs::read_dir(folder).ok()?.flatten().find_map(|file| {
        let name = file.file_name();
        let number = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
        Some((number, file.path()))
    })
}

fn read(path: &Path) -> Option<String> {
    // A folder or a link to one cannot be read; a counter can.
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> (tempfile::TempDir, DeviceFolder) {
        let class = tempfile::tempdir().unwrap();
        let device = DeviceFolder::new(class.path(), "music");
        fs::create_dir(&device.path).unwrap();
        (class, device)
    }

    #[test]
    fn counters_are_the_files_with_a_count() {
        let (_class, device) = folder();
        let files = [
            ("kicks", "12\n"),
            ("state", "live\n"),
            ("device_id", "25\n"),
            ("uevent", ""),
        ];
        for (name, text) in files {
            fs::write(device.path.join(name), text).unwrap();
        }
        fs::create_dir(device.path.join("power")).unwrap();
        assert_eq!(
            device.counters(),
            BTreeMap::from([("kicks".to_owned(), 12)])
        );
    }

    #[test]
    fn driver_and_card_are_below_the_virtio_device() {
        let (_class, device) = folder();
        assert_eq!((device.driver(), device.alsa_card()), (None, None));
        let card = device.path.join("virtio3/sound/card2");
        fs::create_dir_all(&card).unwrap();
        fs::write(card.join("id"), "music\n").unwrap();
        fs::create_dir(card.join("controlC2")).unwrap();
        fs::write(card.join("controlC2/dev"), "116:9\n").unwrap();
        symlink(
            "../../../bus/virtio/drivers/virtio_snd",
            device.path.join("virtio3/driver"),
        )
        .unwrap();
        assert_eq!(device.driver().as_deref(), Some("virtio_snd"));
        assert_eq!(
            device.alsa_card(),
            Some(AlsaCard {
                number: 2,
                id: "music".into()
            })
        );
        assert_eq!(device.alsa_files(), Some(vec!["116:9".into()]));
    }

    #[test]
    fn a_device_without_a_folder_has_nothing() {
        let device = DeviceFolder::new(Path::new("/nonexistent"), "music");
        assert!(device.counters().is_empty());
        assert_eq!((device.driver(), device.alsa_card()), (None, None));
    }
}
