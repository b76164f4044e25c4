// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The structures, constants and ioctl numbers of `linux/virtio_loopback.h`, as they are there.
//!
//! Only layout lives here; meaning is documented in the header. The test `abi` compiles a C program
//! against the header and compares every size, offset, constant and ioctl number with this file.

use std::mem::size_of;

use nix::sys::ioctl::ioctl_num_type;
use nix::{request_code_none, request_code_read, request_code_readwrite, request_code_write};

/// `VIRTIO_LOOPBACK_ABI_VERSION`
pub const ABI_VERSION: u32 = 1;
/// `VIRTIO_LOOPBACK_NAME_SIZE`: bytes of a name with its NUL.
pub const NAME_SIZE: usize = 32;
/// `VIRTIO_LOOPBACK_MAX_QUEUES`
pub const MAX_QUEUES: u32 = 64;
/// `VIRTIO_LOOPBACK_MAX_QUEUE_SIZE`: entries.
pub const MAX_QUEUE_SIZE: u32 = 1024;
/// `VIRTIO_LOOPBACK_MAX_CONFIG`: bytes.
pub const MAX_CONFIG: u32 = 4096;
/// `VIRTIO_LOOPBACK_MAX_BOUNCE`: bytes.
pub const MAX_BOUNCE: u64 = 64 << 20;
/// `VIRTIO_LOOPBACK_MAX_ZERO_COPY`: bytes.
pub const MAX_ZERO_COPY: u64 = 256 << 20;
/// `VIRTIO_LOOPBACK_MAX_SOUND_ITEMS`: jacks, streams, channel maps or controls of a sound device.
pub const MAX_SOUND_ITEMS: u32 = 1024;
/// `VIRTIO_LOOPBACK_MIN_SOUND_QUEUE`: entries of each queue of a sound device.
pub const MIN_SOUND_QUEUE: u32 = 4;
/// `VIRTIO_LOOPBACK_CONFIG_WRITE_MAX`: bytes.
pub const CONFIG_WRITE_MAX: usize = 256;

/// `VIRTIO_LOOPBACK_F_ZERO_COPY`
pub const F_ZERO_COPY: u32 = 1 << 0;
/// `VIRTIO_LOOPBACK_START_RESUME`
pub const START_RESUME: u32 = 1 << 0;
/// `VIRTIO_LOOPBACK_CONFIG_NOTIFY`
pub const CONFIG_NOTIFY: u32 = 1 << 0;

/// `VIRTIO_LOOPBACK_REQUEST_START`
pub const REQUEST_START: u32 = 1;
/// `VIRTIO_LOOPBACK_REQUEST_STOP`
pub const REQUEST_STOP: u32 = 2;
/// `VIRTIO_LOOPBACK_REQUEST_CONFIG_WRITE`
pub const REQUEST_CONFIG_WRITE: u32 = 3;

/// `VIRTIO_LOOPBACK_STATE_IDLE`
pub const STATE_IDLE: u32 = 0;
/// `VIRTIO_LOOPBACK_STATE_STARTING`
pub const STATE_STARTING: u32 = 1;
/// `VIRTIO_LOOPBACK_STATE_LIVE`
pub const STATE_LIVE: u32 = 2;
/// `VIRTIO_LOOPBACK_STATE_QUIESCED`
pub const STATE_QUIESCED: u32 = 3;
/// `VIRTIO_LOOPBACK_STATE_STOPPING`
pub const STATE_STOPPING: u32 = 4;
/// `VIRTIO_LOOPBACK_STATE_DYING`
pub const STATE_DYING: u32 = 5;

/// `struct virtio_loopback_info`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Info {
    /// ABI version of the module.
    pub abi_version: u32,
    /// `F_*` that `CREATE` understands.
    pub flags: u32,
    /// Virtio feature bits that the transport can carry.
    pub features: u64,
    /// Zero.
    pub reserved: [u64; 2],
}

/// `struct virtio_loopback_create`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Create {
    /// NUL-terminated.
    pub name: [u8; NAME_SIZE],
    /// Virtio device id.
    pub device_id: u32,
    /// Virtio vendor id.
    pub vendor_id: u32,
    /// Features of the device.
    pub features: u64,
    /// `F_*`
    pub flags: u32,
    /// Number of queues.
    pub queue_count: u32,
    /// Bytes at `config`.
    pub config_size: u32,
    /// Zero.
    pub reserved0: u32,
    /// Bytes; 0: default.
    pub bounce_size: u64,
    /// Bytes; 0: default.
    pub zero_copy_size: u64,
    /// Address of the initial config space.
    pub config: u64,
    /// Address of `queue_count` times `u32`.
    pub queue_sizes: u64,
    /// Zero.
    pub reserved: [u64; 2],
}

/// `struct virtio_loopback_name`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Name {
    /// NUL-terminated.
    pub name: [u8; NAME_SIZE],
}

/// `struct virtio_loopback_device`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Device {
    /// NUL-terminated.
    pub name: [u8; NAME_SIZE],
    /// Virtio device id.
    pub device_id: u32,
    /// Virtio vendor id.
    pub vendor_id: u32,
    /// Offered to the driver.
    pub features: u64,
    /// Accepted by the driver.
    pub driver_features: u64,
    /// Bytes of the memory file.
    pub memory_size: u64,
    /// `F_*`
    pub flags: u32,
    /// Number of queues.
    pub queue_count: u32,
    /// Bytes of config space.
    pub config_size: u32,
    /// `STATE_*`
    pub state: u32,
    /// 1 while a control file is attached.
    pub attached: u32,
    /// 1 while a driver is bound.
    pub driver_bound: u32,
    /// N of "virtioN".
    pub virtio_index: u32,
    /// User id of who created it.
    pub owner: u32,
    /// Zero.
    pub reserved: [u64; 2],
}

/// `struct virtio_loopback_list`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct List {
    /// Address of room for `capacity` devices.
    pub devices: u64,
    /// Devices there is room for.
    pub capacity: u32,
    /// Out: devices there are.
    pub count: u32,
}

/// `struct virtio_loopback_queue`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue {
    /// In: the queue.
    pub index: u32,
    /// Entries; 0: unused.
    pub size: u32,
    /// Descriptor table.
    pub desc_addr: u64,
    /// Available ring.
    pub driver_addr: u64,
    /// Used ring.
    pub device_addr: u64,
    /// Zero.
    pub reserved: [u64; 2],
}

/// `struct virtio_loopback_eventfds`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Eventfds {
    /// The queue.
    pub index: u32,
    /// File descriptor or -1.
    pub kick: i32,
    /// File descriptor or -1.
    pub call: i32,
    /// Zero.
    pub reserved: u32,
}

/// `struct virtio_loopback_request`
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// For the answer.
    pub id: u64,
    /// `REQUEST_*`
    pub kind: u32,
    /// `START_*`
    pub flags: u32,
    /// The union: [`REQUEST_FEATURES`], or the parts of a config write.
    pub payload: [u64; 34],
}

// Arrays of this length have no Default of their own.
impl Default for Request {
    fn default() -> Self {
        Self {
            id: 0,
            kind: 0,
            flags: 0,
            payload: [0; 34],
        }
    }
}

/// Offset of `start.features` in [`Request`].
pub const REQUEST_FEATURES: usize = 16;
/// Offset of `config_write.offset` in [`Request`].
pub const REQUEST_WRITE_OFFSET: usize = 16;
/// Offset of `config_write.length` in [`Request`].
pub const REQUEST_WRITE_LENGTH: usize = 20;
/// Offset of `config_write.data` in [`Request`].
pub const REQUEST_WRITE_DATA: usize = 24;
/// Bytes of [`Request`]: what `read()` returns.
pub const REQUEST_SIZE: usize = size_of::<Request>();

/// `struct virtio_loopback_answer`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    /// Of the request.
    pub id: u64,
    /// 0 or a negative errno.
    pub status: i32,
    /// Zero.
    pub reserved: u32,
}

/// `struct virtio_loopback_config`
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Config {
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
    /// `CONFIG_*`
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// Address of `length` bytes.
    pub data: u64,
}

/// `VIRTIO_LOOPBACK_IOC`
pub const IOC: u8 = 0xB9;
/// `VIRTIO_LOOPBACK_GET_INFO`
pub const GET_INFO: ioctl_num_type = request_code_read!(IOC, 0x00, size_of::<Info>());
/// `VIRTIO_LOOPBACK_LIST`
pub const LIST: ioctl_num_type = request_code_readwrite!(IOC, 0x01, size_of::<List>());
/// `VIRTIO_LOOPBACK_CREATE`
pub const CREATE: ioctl_num_type = request_code_write!(IOC, 0x02, size_of::<Create>());
/// `VIRTIO_LOOPBACK_ATTACH`
pub const ATTACH: ioctl_num_type = request_code_write!(IOC, 0x03, size_of::<Name>());
/// `VIRTIO_LOOPBACK_DESTROY`
pub const DESTROY: ioctl_num_type = request_code_write!(IOC, 0x04, size_of::<Name>());
/// `VIRTIO_LOOPBACK_GET_DEVICE`
pub const GET_DEVICE: ioctl_num_type = request_code_read!(IOC, 0x05, size_of::<Device>());
/// `VIRTIO_LOOPBACK_GET_QUEUE`
pub const GET_QUEUE: ioctl_num_type = request_code_readwrite!(IOC, 0x06, size_of::<Queue>());
/// `VIRTIO_LOOPBACK_GET_MEMORY`
pub const GET_MEMORY: ioctl_num_type = request_code_none!(IOC, 0x07);
/// `VIRTIO_LOOPBACK_SET_EVENTFDS`
pub const SET_EVENTFDS: ioctl_num_type = request_code_write!(IOC, 0x08, size_of::<Eventfds>());
/// `VIRTIO_LOOPBACK_ANSWER`
pub const ANSWER: ioctl_num_type = request_code_write!(IOC, 0x09, size_of::<Answer>());
/// `VIRTIO_LOOPBACK_SET_CONFIG`
pub const SET_CONFIG: ioctl_num_type = request_code_write!(IOC, 0x0a, size_of::<Config>());
