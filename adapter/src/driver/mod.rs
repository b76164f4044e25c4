// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The kernel side: devices, queues and requests of the virtio_loopback module.
//!
//! [`Driver`] is what a session needs of an attached device; [`ControlFile`] is the real one.

mod control_file;
mod error;
mod ioctl;
mod name;
mod request;
mod state;
pub mod sysfs;
pub mod uapi;

use std::fs::File;

use nix::errno::Errno;
use vmm_sys_util::eventfd::EventFd;

pub use control_file::{CONTROL_PATH, ControlFile, NewDevice};
pub use error::DriverError;
pub use name::{ALSA_ID_MAX, DeviceName, NameError};
pub use request::{Request, RequestKind};
pub use state::{Device, State};

/// Where a queue lies in the memory file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Entries: a power of two up to [`uapi::MAX_QUEUE_SIZE`].
    pub size: u16,
    /// Offset of the descriptor table.
    pub desc_addr: u64,
    /// Offset of the available ring.
    pub driver_addr: u64,
    /// Offset of the used ring.
    pub device_addr: u64,
}

/// An attached kernel device, as far as a session uses it.
pub trait Driver {
    /// The device as it is now.
    ///
    /// # Errors
    /// [`DriverError::GetDevice`], [`DriverError::Gone`].
    fn device(&self) -> Result<Device, DriverError>;

    /// Whether the device is being destroyed, and not gone yet.
    ///
    /// # Errors
    /// [`DriverError::List`].
    fn is_dying(&self) -> Result<bool, DriverError>;

    /// Where queue `index` lies; `None` if the driver above does not use it. Between START and STOP.
    ///
    /// # Errors
    /// [`DriverError::GetQueue`], [`DriverError::NotRunning`], [`DriverError::Gone`].
    fn queue(&self, index: u32) -> Result<Option<Queue>, DriverError>;

    /// The memory file.
    ///
    /// # Errors
    /// [`DriverError::GetMemory`], [`DriverError::Gone`].
    fn memory(&self) -> Result<File, DriverError>;

    /// Hands over the eventfds of queue `index`; the kernel takes references of its own.
    ///
    /// # Errors
    /// [`DriverError::SetEventfds`], [`DriverError::NotRunning`], [`DriverError::Gone`].
    fn set_eventfds(&self, index: u32, kick: &EventFd, call: &EventFd) -> Result<(), DriverError>;

    /// The next request, if there is one; never waits.
    ///
    /// # Errors
    /// [`DriverError::ReadRequest`], [`DriverError::BadRequest`].
    fn next_request(&self) -> Result<Option<Request>, DriverError>;

    /// Answers a request: `Ok`, or the errno that the kernel is told. False: the kernel has given
    /// the request up meanwhile, which is not an error.
    ///
    /// # Errors
    /// [`DriverError::Answer`], [`DriverError::Gone`].
    fn answer(&self, id: u64, result: Result<(), Errno>) -> Result<bool, DriverError>;

    /// Replaces bytes of the config space; `notify` tells the driver above.
    ///
    /// # Errors
    /// [`DriverError::SetConfig`], [`DriverError::Gone`].
    fn set_config(&self, offset: u32, data: &[u8], notify: bool) -> Result<(), DriverError>;
}
