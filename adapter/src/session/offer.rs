// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a device process offers, as the kernel will be told.

use virtio_bindings::virtio_config::{
    VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_PACKED,
    VIRTIO_F_RING_RESET, VIRTIO_F_VERSION_1,
};

use super::SessionError;
use crate::backend::Backend;
use crate::device_type::{DeviceType, QueueCount};
use crate::driver::uapi;

/// `VIRTIO_F_ADMIN_VQ` (virtio 1.3, section 6).
const VIRTIO_F_ADMIN_VQ: u32 = 41;

/// Transport features that never reach the kernel from a device process: the kernel sets
/// ACCESS_PLATFORM itself, the others need what vhost-user or the loopback transport cannot carry,
/// and a packed queue has no used index to go on at.
const NOT_OFFERED: u64 = 1 << VIRTIO_F_ACCESS_PLATFORM
    | 1 << VIRTIO_F_RING_PACKED
    | 1 << VIRTIO_F_NOTIFICATION_DATA
    | 1 << VIRTIO_F_RING_RESET
    | 1 << VIRTIO_F_ADMIN_VQ;

/// Entries of a queue where the device process cannot say what it takes: what most of them do.
const UNTRIED_QUEUE_SIZE: u32 = 256;

/// What the user knows better than the table of device types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Number of queues.
    pub queues: Option<u32>,
    /// Entries of each queue.
    pub queue_size: Option<u32>,
    /// Bytes of config space.
    pub config_size: Option<u32>,
}

/// A device process's side of a kernel device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Virtio feature bits.
    pub features: u64,
    /// Largest size of each queue.
    pub queue_sizes: Vec<u32>,
    /// The config space.
    pub config: Vec<u8>,
    /// Whether writes to the config space are passed on.
    pub config_writes: bool,
}

impl Offer {
    /// Asks a device process for what a device of type `device` needs.
    ///
    /// # Errors
    /// [`SessionError::Legacy`], [`SessionError::TooFewQueues`], [`SessionError::TooManyQueues`],
    /// [`SessionError::UnknownQueueCount`], [`SessionError::NoConfig`], or of GET_CONFIG.
    pub fn ask(
        backend: &mut Backend,
        device: &DeviceType,
        overrides: &Overrides,
    ) -> Result<Self, SessionError> {
        if backend.features() & 1 << VIRTIO_F_VERSION_1 == 0 {
            return Err(SessionError::Legacy);
        }
        let queues = queue_count(device, overrides.queues, backend.queue_count())?;
        let queue_size = match overrides.queue_size {
            Some(size) => size,
            None => queue_size(backend, device.queue_size)?,
        };
        if queue_size < device.least_queue_size() {
            return Err(SessionError::ShortQueues {
                device: device.to_string(),
                size: queue_size,
                least: device.least_queue_size(),
            });
        }
        let features = backend.features();
        let config_size = overrides
            .config_size
            .unwrap_or_else(|| device.config_size(features));
        let config = match config_size {
            0 => Vec::new(),
            _ if !backend.has_config() => {
                return Err(SessionError::NoConfig {
                    device: device.to_string(),
                });
            }
            size => backend.config(size)?,
        };
        Ok(Self {
            features: features & !NOT_OFFERED & !device.withheld,
            queue_sizes: vec![queue_size; queues as usize],
            config,
            config_writes: device.config_writes,
        })
    }
}

/// The longest queue up to `most` entries that the device process takes: vhost-user has no message
/// that asks for it, but a queue that is too long is refused.
fn queue_size(backend: &mut Backend, most: u32) -> Result<u32, SessionError> {
    let mut size = most;
    loop {
        // The table's sizes fit into the message, see its test.
        match backend.takes_queue_size(0, u16::try_from(size).unwrap_or(u16::MAX))? {
            Some(true) => return Ok(size),
            Some(false) if size > 1 => size /= 2,
            Some(false) => return Err(SessionError::NoQueueSize),
            None => return Ok(size.min(UNTRIED_QUEUE_SIZE)),
        }
    }
}

/// How many queues the device gets. `offered`: how many the device process can serve.
fn queue_count(
    device: &DeviceType,
    asked: Option<u32>,
    offered: Option<u32>,
) -> Result<u32, SessionError> {
    let name = || device.to_string();
    let needed = asked.unwrap_or(device.queues.least());
    if let Some(offered) = offered.filter(|offered| *offered < needed) {
        return Err(SessionError::TooFewQueues {
            device: name(),
            offered,
            needed,
        });
    }
    let queues = match (asked, device.queues, offered) {
        (Some(asked), _, _) => asked,
        (None, QueueCount::AtLeast(_), Some(offered)) => offered.min(uapi::MAX_QUEUES),
        (None, QueueCount::AtLeast(_), None) if device.driver.is_empty() => {
            return Err(SessionError::UnknownQueueCount { device: name() });
        }
        (None, _, _) => needed,
    };
    if queues > uapi::MAX_QUEUES {
        return Err(SessionError::TooManyQueues {
            device: name(),
            queues,
            max: uapi::MAX_QUEUES,
        });
    }
    Ok(queues)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(device: &str, asked: Option<u32>, offered: Option<u32>) -> Result<u32, SessionError> {
        queue_count(&device.parse().unwrap(), asked, offered)
    }

    #[test]
    fn a_type_with_a_fixed_number_keeps_it() {
        assert_eq!(count("sound", None, None).unwrap(), 4);
        assert_eq!(count("sound", None, Some(16)).unwrap(), 4);
        let few = count("sound", None, Some(3));
        assert!(matches!(
            few,
            Err(SessionError::TooFewQueues {
                offered: 3,
                needed: 4,
                ..
            })
        ));
    }

    #[test]
    fn other_types_take_what_is_offered() {
        assert_eq!(count("block", None, Some(8)).unwrap(), 8);
        assert_eq!(count("block", None, None).unwrap(), 1);
        assert_eq!(count("block", None, Some(32768)).unwrap(), uapi::MAX_QUEUES);
        assert_eq!(count("block", Some(2), Some(8)).unwrap(), 2);
        assert!(matches!(
            count("block", Some(9), Some(8)),
            Err(SessionError::TooFewQueues { .. })
        ));
        assert!(matches!(
            count("block", Some(65), None),
            Err(SessionError::TooManyQueues { .. })
        ));
    }

    #[test]
    fn an_unknown_type_must_tell() {
        assert_eq!(count("77", None, Some(2)).unwrap(), 2);
        assert_eq!(count("77", Some(5), None).unwrap(), 5);
        assert!(matches!(
            count("77", None, None),
            Err(SessionError::UnknownQueueCount { .. })
        ));
    }
}
