// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What differs between the types of virtio devices: one table.
//!
//! vhost-user tells features, and mostly the number of queues; how large a config space is, how
//! long a queue may be and how the driver above uses its buffers is knowledge about the type.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use virtio_bindings::virtio_ids;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC;

use crate::driver::uapi;

/// How many queues a device of a type has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueCount {
    /// Always as many, whatever the device process could serve.
    Exactly(u32),
    /// As many as the device process offers (protocol feature MQ), at least this many.
    AtLeast(u32),
}

impl QueueCount {
    /// The smallest number of queues a device of the type can have.
    pub fn least(self) -> u32 {
        match self {
            Self::Exactly(n) | Self::AtLeast(n) => n,
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceType {
    /// Name on the command line.
    pub name: &'static str,
    /// Virtio device id (virtio 1.3, section 5).
    pub id: u32,
    /// Whether the driver's data buffers are whole pages of its own, so that they may stay mapped
    /// in the memory file.
    pub zero_copy: bool,
    /// Number of queues.
    pub queues: QueueCount,
    /// Longest queue that is of use, in entries; a device process may take shorter ones only.
    pub queue_size: u32,
    /// Bytes of config space.
    pub config_size: u32,
    /// Feature bits with which the config space is longer: (bit, bytes), shortest first.
    pub config_growth: &'static [(u32, u32)],
    /// Whether the driver may write to the config space.
    pub config_writes: bool,
    /// Feature bits of the device process that do more harm than good over this transport.
    pub withheld: u64,
    /// Module of the driver.
    pub driver: &'static str,
    /// Kernel option of the driver.
    pub kernel_option: &'static str,
}

/// A type of which nothing is known: the device process must offer the protocol feature MQ.
const OTHER: DeviceType = DeviceType {
    name: "unknown type",
    id: 0,
    zero_copy: false,
    queues: QueueCount::AtLeast(1),
    queue_size: 128,
    config_size: 0,
    config_growth: &[],
    config_writes: false,
    withheld: 0,
    driver: "",
    kernel_option: "",
};

/// `VIRTIO_SND_F_CTLS` (virtio 1.3, section 5.14.3).
const SND_F_CTLS: u32 = 0;
/// `VIRTIO_FS_F_NOTIFICATION` (virtio 1.3, section 5.11.3).
const FS_F_NOTIFICATION: u32 = 0;

/// All types that can be named on the command line.
pub const DEVICE_TYPES: &[DeviceType] = &[
    DeviceType {
        name: "sound",
        id: virtio_ids::VIRTIO_ID_SOUND,
        zero_copy: true,
        queues: QueueCount::Exactly(4),
        // A period takes an entry for each page, and the driver drops what does not fit.
        queue_size: 1024,
        config_size: 12,
        config_growth: &[(SND_F_CTLS, 16)],
        // A queue of this size holds every period; a table for each would be one more small buffer
        // to copy into a bounce slot.
        withheld: 1 << VIRTIO_RING_F_INDIRECT_DESC,
        driver: "virtio_snd",
        kernel_option: "CONFIG_SND_VIRTIO",
        ..OTHER
    },
    DeviceType {
        name: "rng",
        id: virtio_ids::VIRTIO_ID_RNG,
        queues: QueueCount::Exactly(1),
        driver: "virtio-rng",
        kernel_option: "CONFIG_HW_RANDOM_VIRTIO",
        ..OTHER
    },
    DeviceType {
        name: "console",
        id: virtio_ids::VIRTIO_ID_CONSOLE,
        queues: QueueCount::AtLeast(2),
        config_size: 12,
        config_writes: true,
        driver: "virtio_console",
        kernel_option: "CONFIG_VIRTIO_CONSOLE",
        ..OTHER
    },
    DeviceType {
        name: "net",
        id: virtio_ids::VIRTIO_ID_NET,
        queues: QueueCount::AtLeast(2),
        queue_size: 256,
        config_size: 12,
        config_writes: true,
        driver: "virtio_net",
        kernel_option: "CONFIG_VIRTIO_NET",
        ..OTHER
    },
    DeviceType {
        name: "block",
        id: virtio_ids::VIRTIO_ID_BLOCK,
        config_size: 60,
        config_writes: true,
        driver: "virtio_blk",
        kernel_option: "CONFIG_VIRTIO_BLK",
        ..OTHER
    },
    DeviceType {
        name: "scsi",
        id: virtio_ids::VIRTIO_ID_SCSI,
        queues: QueueCount::AtLeast(3),
        config_size: 36,
        config_writes: true,
        driver: "virtio_scsi",
        kernel_option: "CONFIG_SCSI_VIRTIO",
        ..OTHER
    },
    DeviceType {
        name: "input",
        id: virtio_ids::VIRTIO_ID_INPUT,
        queues: QueueCount::Exactly(2),
        config_size: 136,
        // The driver selects with a write what it reads next (virtio 1.3, section 5.8.2).
        config_writes: true,
        driver: "virtio_input",
        kernel_option: "CONFIG_VIRTIO_INPUT",
        ..OTHER
    },
    DeviceType {
        name: "vsock",
        id: virtio_ids::VIRTIO_ID_VSOCK,
        queues: QueueCount::Exactly(3),
        config_size: 8,
        driver: "vmw_vsock_virtio_transport",
        kernel_option: "CONFIG_VIRTIO_VSOCKETS",
        ..OTHER
    },
    DeviceType {
        name: "fs",
        id: virtio_ids::VIRTIO_ID_FS,
        queues: QueueCount::AtLeast(2),
        config_size: 40,
        config_growth: &[(FS_F_NOTIFICATION, 44)],
        driver: "virtiofs",
        kernel_option: "CONFIG_VIRTIO_FS",
        ..OTHER
    },
    DeviceType {
        name: "i2c",
        id: virtio_ids::VIRTIO_ID_I2C_ADAPTER,
        queues: QueueCount::Exactly(1),
        driver: "i2c-virtio",
        kernel_option: "CONFIG_I2C_VIRTIO",
        ..OTHER
    },
    DeviceType {
        name: "gpio",
        id: virtio_ids::VIRTIO_ID_GPIO,
        queues: QueueCount::AtLeast(1),
        config_size: 8,
        driver: "gpio-virtio",
        kernel_option: "CONFIG_GPIO_VIRTIO",
        ..OTHER
    },
    DeviceType {
        name: "can",
        id: virtio_ids::VIRTIO_ID_CAN,
        queues: QueueCount::Exactly(3),
        queue_size: 64,
        config_size: 2,
        driver: "virtio_can",
        kernel_option: "CONFIG_CAN_VIRTIO_CAN",
        ..OTHER
    },
];

impl DeviceType {
    /// The row for a virtio device id, or one for a type of which nothing is known.
    pub fn of_id(id: u32) -> Self {
        let known = DEVICE_TYPES.iter().find(|row| row.id == id).copied();
        known.unwrap_or(Self { id, ..OTHER })
    }

    /// Bytes of config space of a device with these features.
    pub fn config_size(&self, features: u64) -> u32 {
        let grown = self
            .config_growth
            .iter()
            .rev()
            .find(|(bit, _)| features & (1 << bit) != 0);
        grown.map_or(self.config_size, |(_, size)| *size)
    }

    /// Entries that each queue has at least: the parts of the driver's messages.
    pub fn least_queue_size(&self) -> u32 {
        match self.id {
            virtio_ids::VIRTIO_ID_SOUND => uapi::MIN_SOUND_QUEUE,
            _ => 1,
        }
    }

    /// What to do when no driver takes a device of this type, on a machine with these `drivers`
    /// (see [`crate::driver::sysfs::DRIVERS`]).
    pub fn driver_advice(&self, drivers: &Path) -> String {
        if self.driver.is_empty() {
            return "load or build the driver for this type".into();
        }
        // The kernel's names of modules, and so of drivers, have no hyphen.
        if drivers.join(self.driver.replace('-', "_")).exists() {
            let driver = self.driver;
            return format!("{driver} is loaded and has not taken it: the kernel log may say why");
        }
        format!("modprobe {}, or build {}", self.driver, self.kernel_option)
    }

    /// The device's queues have a size that the kernel accepts.
    pub fn is_queue_size(size: u32) -> bool {
        size.is_power_of_two() && size <= uapi::MAX_QUEUE_SIZE
    }
}

/// "25 (sound)"
impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.name)
    }
}

/// A text is neither a known type nor a number.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such device type: use a virtio device id or one of {}", names())]
pub struct UnknownDeviceType;

/// The types that can be named, for people.
pub fn names() -> String {
    DEVICE_TYPES
        .iter()
        .map(|row| row.name)
        .collect::<Vec<_>>()
        .join(", ")
}

impl FromStr for DeviceType {
    type Err = UnknownDeviceType;

    fn from_str(text: &str) -> Result<Self, UnknownDeviceType> {
        if let Some(row) = DEVICE_TYPES.iter().find(|row| row.name == text) {
            return Ok(*row);
        }
        match text.parse() {
            Ok(id) if id != 0 => Ok(Self::of_id(id)),
            _ => Err(UnknownDeviceType),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_within_the_limits_of_the_kernel() {
        for row in DEVICE_TYPES {
            assert!(DeviceType::is_queue_size(row.queue_size), "{row}");
            assert!(
                (1..=uapi::MAX_QUEUES).contains(&row.queues.least()),
                "{row}"
            );
            let largest = row
                .config_growth
                .last()
                .map_or(row.config_size, |(_, size)| *size);
            assert!(
                row.config_size <= largest && largest <= uapi::MAX_CONFIG,
                "{row}"
            );
            assert!(row.id != 0 && !row.driver.is_empty(), "{row}");
        }
    }

    #[test]
    fn names_and_numbers_mean_the_same_row() {
        for row in DEVICE_TYPES {
            assert_eq!(row.name.parse(), Ok(*row));
            assert_eq!(row.id.to_string().parse(), Ok(*row));
        }
        assert_eq!(
            "sound".parse::<DeviceType>().unwrap().to_string(),
            "25 (sound)"
        );
        assert_eq!(
            "77".parse::<DeviceType>().unwrap().to_string(),
            "77 (unknown type)"
        );
    }

    #[test]
    fn an_unknown_type_lists_the_known_ones() {
        for text in ["", "0", "-1", "Sound", "4294967296"] {
            let error = text.parse::<DeviceType>().unwrap_err();
            assert!(
                error.to_string().contains("sound, rng, console"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_driver_that_is_there_need_not_be_loaded() {
        let drivers = tempfile::tempdir().unwrap();
        let advice = |name: &str| {
            let device = name.parse::<DeviceType>().unwrap();
            device.driver_advice(drivers.path())
        };
        assert!(advice("rng").contains("modprobe virtio-rng"));
        std::fs::create_dir(drivers.path().join("virtio_rng")).unwrap();
        assert!(advice("rng").contains("virtio-rng is loaded"));
        assert!(advice("sound").contains("modprobe virtio_snd"));
        assert!(advice("77").contains("for this type"));
    }

    #[test]
    fn controls_make_the_sound_config_longer() {
        let sound = DeviceType::of_id(25);
        assert_eq!(sound.config_size(1 << 32), 12);
        assert_eq!(sound.config_size(1 << 32 | 1 << SND_F_CTLS), 16);
        assert_eq!(DeviceType::of_id(4).config_size(u64::MAX), 0);
    }
}
