// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A loopback device as the kernel reports it.

use std::fmt;

use serde::Serialize;

use super::uapi;

/// `enum virtio_loopback_state`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No driver has taken the device, or the driver has reset it.
    Idle,
    /// DRIVER_OK is set, START has not been answered.
    Starting,
    /// The queues are served.
    Live,
    /// DRIVER_OK is set, nobody serves the queues.
    Quiesced,
    /// The driver has reset the device, STOP has not been answered.
    Stopping,
    /// DESTROY was called, the last user has not closed the device.
    Dying,
    /// A state that this program does not know.
    Unknown,
}

impl From<u32> for State {
    fn from(state: u32) -> Self {
        match state {
            uapi::STATE_IDLE => Self::Idle,
            uapi::STATE_STARTING => Self::Starting,
            uapi::STATE_LIVE => Self::Live,
            uapi::STATE_QUIESCED => Self::Quiesced,
            uapi::STATE_STOPPING => Self::Stopping,
            uapi::STATE_DYING => Self::Dying,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idle => "idle",
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Quiesced => "quiesced",
            Self::Stopping => "stopping",
            Self::Dying => "dying",
            Self::Unknown => "unknown",
        })
    }
}

/// `struct virtio_loopback_device`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Unique among the devices.
    pub name: String,
    /// Virtio device id.
    pub device_id: u32,
    /// Features offered to the driver above.
    pub features: u64,
    /// Features that the driver above accepted; valid from the START request on.
    pub driver_features: u64,
    /// Bytes of the memory file.
    pub memory_size: u64,
    /// Whether buffers may be mapped in place.
    pub zero_copy: bool,
    /// Number of queues.
    pub queue_count: u32,
    /// Bytes of config space.
    pub config_size: u32,
    /// Where in its life the device is.
    pub state: State,
    /// Whether an adapter is attached.
    pub attached: bool,
    /// Whether a driver of this kernel is bound to the device.
    pub driver_bound: bool,
    /// N of the virtio device's name "virtioN".
    pub virtio_index: u32,
}

impl From<&uapi::Device> for Device {
    fn from(raw: &uapi::Device) -> Self {
        let name = raw.name.split(|byte| *byte == 0).next().unwrap_or_default();
        Self {
            name: String::from_utf8_lossy(name).into_owned(),
            device_id: raw.device_id,
            features: raw.features,
            driver_features: raw.driver_features,
            memory_size: raw.memory_size,
            zero_copy: raw.flags & uapi::F_ZERO_COPY != 0,
            queue_count: raw.queue_count,
            config_size: raw.config_size,
            state: raw.state.into(),
            attached: raw.attached != 0,
            driver_bound: raw.driver_bound != 0,
            virtio_index: raw.virtio_index,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_its_nul() {
        let mut raw = uapi::Device::default();
        raw.name[..8].copy_from_slice(b"music\0xx");
        raw.state = uapi::STATE_QUIESCED;
        raw.attached = 1;
        let device = Device::from(&raw);
        assert_eq!(device.name, "music");
        assert_eq!(device.state, State::Quiesced);
        assert!(device.attached && !device.driver_bound);
    }

    #[test]
    fn a_newer_state_is_unknown() {
        assert_eq!(State::from(17), State::Unknown);
        assert_eq!(format!("{:>9}", State::Live), "     live");
    }
}
