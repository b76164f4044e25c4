// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What can go wrong between the adapter and the kernel module, one variant per step.

use std::io;

use nix::errno::Errno;

use super::uapi;

/// A step with the kernel module failed.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// `open()`: nothing is registered under the path.
    #[error(
        "cannot open {path}: the kernel module is not loaded (load it with: modprobe virtio_loopback)"
    )]
    ModuleNotLoaded {
        /// The control file.
        path: String,
        /// Of `open()`.
        source: io::Error,
    },
    /// `open()`: refused by the file's mode.
    #[error(
        "cannot open {path}: no permission (become a member of the group virtio-loopback, \
         or run this as root)"
    )]
    NoPermission {
        /// The control file.
        path: String,
        /// Of `open()`.
        source: io::Error,
    },
    /// `open()`: anything else.
    #[error("cannot open {path}")]
    Open {
        /// The control file.
        path: String,
        /// Of `open()`.
        source: io::Error,
    },
    /// `GET_INFO`
    #[error("{path} does not answer as virtio-loopback does: is another driver behind it?")]
    Info {
        /// The control file.
        path: String,
        /// Of the ioctl.
        source: Errno,
    },
    /// `GET_INFO`: a module of another version.
    #[error(
        "the loaded kernel module speaks ABI version {module}, this program version {adapter}: \
         install both from the same release, then reload the module",
        adapter = uapi::ABI_VERSION
    )]
    AbiVersion {
        /// Version of the module.
        module: u32,
    },
    /// `LIST`
    #[error("cannot list the devices")]
    List(#[source] Errno),
    /// `CREATE`: somebody was faster.
    #[error("a device named {0} exists already")]
    NameExists(String),
    /// `CREATE`: the module's limit.
    #[error("cannot create {0}: the kernel module allows no more devices (destroy one first)")]
    TooManyDevices(String),
    /// `CREATE`: the driver waits for each answer with interrupts off.
    #[error("cannot create {0}: the driver of a virtio console needs a machine with two CPUs")]
    ConsoleOnOneCpu(String),
    /// `CREATE`: the limits of one user.
    #[error(
        "cannot create {0}: this user has as many devices, or as much memory for them, as one may have \
         (destroy one first, or raise max_user_devices or max_user_mib of the kernel module)"
    )]
    QuotaReached(String),
    /// `CREATE`: by a user without privileges.
    #[error(
        "cannot create {name}: devices of virtio type {device_id} are made by root alone \
         (or name the type in user_types of the kernel module)"
    )]
    TypeForRoot {
        /// Of the device.
        name: String,
        /// Its virtio type.
        device_id: u32,
    },
    /// `CREATE`: a type that nobody can have.
    #[error(
        "cannot create {name}: devices of virtio type {device_id} deal in physical memory, \
         which a process has none of"
    )]
    PhysicalMemory {
        /// Of the device.
        name: String,
        /// Its virtio type.
        device_id: u32,
    },
    /// `ATTACH`, `DESTROY`: of a device that somebody else has made.
    #[error(
        "the device {0} belongs to another user (do it as that user, or as root; \
         /sys/class/virtio-loopback/{0}/owner has the user's id)"
    )]
    NotYours(String),
    /// `CREATE`
    #[error("cannot create the device {name}")]
    Create {
        /// Of the device.
        name: String,
        /// Of the ioctl.
        source: Errno,
    },
    /// `ATTACH`, `DESTROY`: no such device.
    #[error("there is no device named {0} (virtio-loopback list shows those that exist)")]
    NoDevice(String),
    /// `ATTACH`: in use.
    #[error(
        "the device {0} is attached to another adapter (stop that one first, or choose another name)"
    )]
    NameTaken(String),
    /// `ATTACH`: on its way out.
    #[error(
        "the device {0} is being destroyed: an application still has it open; \
         it goes when that application closes it"
    )]
    Dying(String),
    /// `ATTACH`
    #[error("cannot attach to the device {name}")]
    Attach {
        /// Of the device.
        name: String,
        /// Of the ioctl.
        source: Errno,
    },
    /// `DESTROY`
    #[error("cannot destroy the device {name}")]
    Destroy {
        /// Of the device.
        name: String,
        /// Of the ioctl.
        source: Errno,
    },
    /// Any call after the device has been destroyed.
    #[error("the device is being destroyed")]
    Gone,
    /// `GET_QUEUE`, `SET_EVENTFDS`: the driver above has reset the device meanwhile.
    #[error("the driver has reset the device")]
    NotRunning,
    /// `GET_DEVICE`
    #[error("cannot read the state of the device")]
    GetDevice(#[source] Errno),
    /// `GET_QUEUE`
    #[error("cannot read the addresses of queue {index}")]
    GetQueue {
        /// The queue.
        index: u32,
        /// Of the ioctl.
        source: Errno,
    },
    /// `GET_MEMORY`
    #[error("cannot get the device's memory file")]
    GetMemory(#[source] Errno),
    /// `SET_EVENTFDS`
    #[error("cannot hand over the eventfds of queue {index}")]
    SetEventfds {
        /// The queue.
        index: u32,
        /// Of the ioctl.
        source: Errno,
    },
    /// `read()`
    #[error("cannot read a request from the kernel")]
    ReadRequest(#[source] io::Error),
    /// `read()`: not a request of this ABI.
    #[error("the kernel sent a request that this program does not understand: {0}")]
    BadRequest(String),
    /// `ANSWER`
    #[error("cannot answer a request of the kernel")]
    Answer(#[source] Errno),
    /// `CREATE`, `SET_CONFIG`: of a sound device.
    #[error(
        "the device process says that it has more than {max} jacks, streams, channel maps or controls",
        max = uapi::MAX_SOUND_ITEMS
    )]
    TooManyItems,
    /// `SET_CONFIG`
    #[error("cannot write {length} bytes of config space at offset {offset}")]
    SetConfig {
        /// First byte.
        offset: u32,
        /// Bytes.
        length: usize,
        /// Of the ioctl.
        source: Errno,
    },
}

impl DriverError {
    /// Whether the kernel does not take what the device process says of itself.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::TooManyItems)
    }
}
