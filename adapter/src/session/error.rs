// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What can go wrong in a session.

use crate::backend::BackendError;
use crate::driver::DriverError;
use crate::memory::MemoryError;

/// The kernel device and the device process do not come together.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The device process offers no VIRTIO_F_VERSION_1.
    #[error("the device process speaks only legacy virtio: it does not offer VIRTIO_F_VERSION_1")]
    Legacy,
    /// The device process cannot serve the type.
    #[error(
        "the device process serves {offered} queue(s), but virtio device {device} has {needed}: \
         does it serve another type of device? (--device)"
    )]
    TooFewQueues {
        /// The type.
        device: String,
        /// What the device process has.
        offered: u32,
        /// What the type needs.
        needed: u32,
    },
    /// The kernel's limit.
    #[error("virtio device {device} would have {queues} queues; the kernel module allows {max}")]
    TooManyQueues {
        /// The type.
        device: String,
        /// How many there would be.
        queues: u32,
        /// How many there may be.
        max: u32,
    },
    /// The number of queues is not known.
    #[error(
        "the device process does not tell how many queues it serves, and virtio device {device} \
         can have any number: name it with --queues"
    )]
    UnknownQueueCount {
        /// The type.
        device: String,
    },
    /// SET_VRING_NUM was refused for every size.
    #[error("the device process takes queues of no size")]
    NoQueueSize,
    /// A message of the driver would not fit into a queue.
    #[error(
        "virtio device {device} needs queues of at least {least} entries, not {size} (--queue-size, \
         or what the device process takes)"
    )]
    ShortQueues {
        /// The type.
        device: String,
        /// Entries that a queue would have.
        size: u32,
        /// Entries that it needs.
        least: u32,
    },
    /// The device process lacks the protocol feature CONFIG.
    #[error(
        "the device process has no config space (vhost-user protocol feature CONFIG), which \
         virtio device {device} needs: does it serve another type of device? (--device)"
    )]
    NoConfig {
        /// The type.
        device: String,
    },
    /// The driver uses features that this device process does not have.
    #[error(
        "the driver uses virtio features {missing:#x} that the device process does not offer: \
         start the device process as before, or destroy the device and begin anew"
    )]
    FeaturesLost {
        /// The feature bits.
        missing: u64,
    },
    /// A step with the kernel.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A step with the device process.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The memory file.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Eventfds.
    #[error("cannot make an eventfd")]
    Eventfd(#[source] std::io::Error),
}

impl SessionError {
    /// Whether the device process has gone, so that another one may come.
    pub fn is_backend_closed(&self) -> bool {
        matches!(self, Self::Backend(error) if error.is_closed())
    }

    /// Whether the device process is there and says nothing.
    pub fn is_no_answer(&self) -> bool {
        matches!(self, Self::Backend(error) if error.is_no_answer())
    }

    /// Whether it was left off because this program is to end.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Self::Backend(BackendError::Interrupted { .. }))
    }

    /// Whether the device process does not do as it is asked, or does not offer what the device has.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Legacy
            | Self::TooFewQueues { .. }
            | Self::UnknownQueueCount { .. }
            | Self::NoConfig { .. }
            | Self::FeaturesLost { .. } => true,
            Self::Driver(error) => error.is_refusal(),
            Self::Backend(error) => error.is_refusal(),
            _ => false,
        }
    }

    /// Whether the kernel device is being destroyed.
    pub fn is_device_gone(&self) -> bool {
        matches!(self, Self::Driver(DriverError::Gone))
    }
}
