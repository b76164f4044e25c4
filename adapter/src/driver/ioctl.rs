// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The ioctls of `/dev/virtio-loopback` as safe functions. The only unsafe code of this crate.
//!
//! Where a structure of the ABI carries an address, the function here takes a slice instead and
//! fills the address in itself, so that no caller can pass a wrong one.

#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::{ioctl_none_bad, ioctl_read_bad, ioctl_readwrite_bad, ioctl_write_ptr_bad};
use vmm_sys_util::eventfd::EventFd;

use super::uapi;

/// The result of an ioctl.
pub type Result<T> = std::result::Result<T, Errno>;

mod raw {
    use super::*;

    ioctl_read_bad!(get_info, uapi::GET_INFO, uapi::Info);
    ioctl_readwrite_bad!(list, uapi::LIST, uapi::List);
    ioctl_write_ptr_bad!(create, uapi::CREATE, uapi::Create);
    ioctl_write_ptr_bad!(attach, uapi::ATTACH, uapi::Name);
    ioctl_write_ptr_bad!(destroy, uapi::DESTROY, uapi::Name);
    ioctl_read_bad!(get_device, uapi::GET_DEVICE, uapi::Device);
    ioctl_readwrite_bad!(get_queue, uapi::GET_QUEUE, uapi::Queue);
    ioctl_none_bad!(get_memory, uapi::GET_MEMORY);
    ioctl_write_ptr_bad!(set_eventfds, uapi::SET_EVENTFDS, uapi::Eventfds);
    ioctl_write_ptr_bad!(answer, uapi::ANSWER, uapi::Answer);
    ioctl_write_ptr_bad!(set_config, uapi::SET_CONFIG, uapi::Config);
}

/// `GET_INFO`
pub fn get_info(control: &File) -> Result<uapi::Info> {
    let mut info = uapi::Info::default();
    // SAFETY: The kernel writes at most sizeof(Info), which the number encodes, to a live Info;
    // every bit pattern is a valid Info.
    unsafe { raw::get_info(control.as_raw_fd(), &mut info) }?;
    Ok(info)
}

/// `LIST`: fills `room`; returns how many devices there are, which may exceed the room.
pub fn list(control: &File, room: &mut [uapi::Device]) -> Result<usize> {
    let mut list = uapi::List {
        devices: room.as_mut_ptr() as u64,
        capacity: u32::try_from(room.len()).unwrap_or(u32::MAX),
        count: 0,
    };
    // SAFETY: `list` is live for the call; `devices` addresses `capacity` exclusively borrowed
    // Devices, each valid for every bit pattern.
    unsafe { raw::list(control.as_raw_fd(), &mut list) }?;
    Ok(list.count as usize)
}

/// `CREATE`: `config` and `queue_sizes` replace the addresses and counts in `create`.
pub fn create(
    control: &File,
    create: &uapi::Create,
    config: &[u8],
    queue_sizes: &[u32],
) -> Result<()> {
    let create = uapi::Create {
        queue_count: u32::try_from(queue_sizes.len()).map_err(|_| Errno::E2BIG)?,
        config_size: u32::try_from(config.len()).map_err(|_| Errno::E2BIG)?,
        config: config.as_ptr() as u64,
        queue_sizes: queue_sizes.as_ptr() as u64,
        ..*create
    };
    // SAFETY: The kernel only reads: sizeof(Create) from a live Create, and from the two borrowed
    // slices exactly the lengths that were set from them above.
    unsafe { raw::create(control.as_raw_fd(), &create) }?;
    Ok(())
}

/// `ATTACH`
pub fn attach(control: &File, name: &uapi::Name) -> Result<()> {
    // SAFETY: The kernel only reads sizeof(Name) from a live Name.
    unsafe { raw::attach(control.as_raw_fd(), name) }?;
    Ok(())
}

/// `DESTROY`
pub fn destroy(control: &File, name: &uapi::Name) -> Result<()> {
    // SAFETY: The kernel only reads sizeof(Name) from a live Name.
    unsafe { raw::destroy(control.as_raw_fd(), name) }?;
    Ok(())
}

/// `GET_DEVICE`
pub fn get_device(control: &File) -> Result<uapi::Device> {
    let mut device = uapi::Device::default();
    // SAFETY: The kernel writes at most sizeof(Device) to a live Device, valid for every bit
    // pattern.
    unsafe { raw::get_device(control.as_raw_fd(), &mut device) }?;
    Ok(device)
}

/// `GET_QUEUE`
pub fn get_queue(control: &File, index: u32) -> Result<uapi::Queue> {
    let mut queue = uapi::Queue {
        index,
        ..uapi::Queue::default()
    };
    // SAFETY: The kernel reads and writes at most sizeof(Queue) of a live Queue, valid for every
    // bit pattern.
    unsafe { raw::get_queue(control.as_raw_fd(), &mut queue) }?;
    Ok(queue)
}

/// `GET_MEMORY`: a new file descriptor of the memory file.
pub fn get_memory(control: &File) -> Result<OwnedFd> {
    // SAFETY: The ioctl takes no argument.
    let fd = unsafe { raw::get_memory(control.as_raw_fd()) }?;
    if fd < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: The kernel has just installed this descriptor for this call and nobody else knows
    // its number, so ownership is ours alone; it is not negative.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `SET_EVENTFDS`
pub fn set_eventfds(control: &File, index: u32, kick: &EventFd, call: &EventFd) -> Result<()> {
    let eventfds = uapi::Eventfds {
        index,
        kick: kick.as_raw_fd(),
        call: call.as_raw_fd(),
        reserved: 0,
    };
    // SAFETY: The kernel only reads sizeof(Eventfds) from a live Eventfds; it takes references of
    // its own to the two open files.
    unsafe { raw::set_eventfds(control.as_raw_fd(), &eventfds) }?;
    Ok(())
}

/// `ANSWER`
pub fn answer(control: &File, answer: &uapi::Answer) -> Result<()> {
    // SAFETY: The kernel only reads sizeof(Answer) from a live Answer.
    unsafe { raw::answer(control.as_raw_fd(), answer) }?;
    Ok(())
}

/// `SET_CONFIG`: replaces `data.len()` bytes at `offset`.
pub fn set_config(control: &File, offset: u32, data: &[u8], flags: u32) -> Result<()> {
    let config = uapi::Config {
        offset,
        length: u32::try_from(data.len()).map_err(|_| Errno::E2BIG)?,
        flags,
        reserved: 0,
        data: data.as_ptr() as u64,
    };
    // SAFETY: The kernel only reads: sizeof(Config) from a live Config, and `length` bytes of the
    // borrowed slice it addresses.
    unsafe { raw::set_config(control.as_raw_fd(), &config) }?;
    Ok(())
}
