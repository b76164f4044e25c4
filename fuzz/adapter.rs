// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device process whose answers are the input, before the adapter has asked anything. An answer to
//! GET_INFLIGHT_FD comes with a file, of 32 bytes for each entry of as many queues as it names; an area
//! takes about half of that.

use std::fs::{self, File};
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::{env, process, thread};

use nix::sys::memfd::{MFdFlags, memfd_create};
use vhost::vhost_user::message::VhostUserInflight;
use virtio_loopback::backend::{Backend, BackendError, Vring};
use virtio_loopback::inflight::{Area, Inflight};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// No answer takes that long: all of them are there.
const LIMIT: Duration = Duration::from_secs(5);
/// What is not read must fit into the socket.
const LONGEST: usize = 4096;
const LONGEST_FILE: u64 = 1 << 20;

/// `VHOST_USER_GET_INFLIGHT_FD`
const GET_INFLIGHT_FD: u32 = 31;
const HEADER: usize = 12;

/// The adapter asks all that it ever asks, and believes nothing.
pub fn vhost_user_adapter(input: &[u8]) {
    let _ = areas(input);
}

/// The same; returns how often the device process has taken an area for what is in flight.
pub fn areas(input: &[u8]) -> usize {
    let Ok((ours, theirs)) = UnixStream::pair() else {
        return 0;
    };
    let input = input.get(..LONGEST).unwrap_or(input);
    let _ = say(&theirs, input);
    if theirs.shutdown(Shutdown::Write).is_err() {
        return 0;
    }
    let mut areas = 0;
    if let Ok(mut backend) = Backend::negotiate(ours, 4, LIMIT, Default::default()) {
        // It says when an answer makes no sense, and goes on where that is possible.
        let _ = talk(&mut backend, &mut areas);
    }
    areas
}

/// Says all of it, or as much as there is room for.
fn say(mut socket: &UnixStream, mut input: &[u8]) -> std::io::Result<()> {
    socket.set_nonblocking(true)?;
    while !input.is_empty() {
        let length = HEADER + number::<4>(input, 8) as usize;
        let (message, rest) = input.split_at(length.min(input.len()));
        match area(message) {
            Some(file) => drop(socket.send_with_fd(message, file.as_raw_fd())?),
            None => socket.write_all(message)?,
        }
        input = rest;
    }
    Ok(())
}

/// A number of `N` bytes; 0 where they are not there.
fn number<const N: usize>(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..at + N).unwrap_or_default();
    let digits = bytes.iter().rev();
    digits.fold(0, |number, &byte| number << 8 | u32::from(byte))
}

/// The file that comes with a message.
fn area(message: &[u8]) -> Option<File> {
    if number::<4>(message, 0) != GET_INFLIGHT_FD {
        return None;
    }
    let [queues, entries] = [16, 18].map(|at| u64::from(number::<2>(message, HEADER + at)));
    let file = File::from(memfd_create(c"area", MFdFlags::MFD_CLOEXEC).ok()?);
    let length = LONGEST_FILE.min(32 * queues * entries);
    file.set_len(length).ok()?;
    Some(file)
}

/// What is in flight at the first start, and at one that goes on.
fn share(
    backend: &mut Backend,
    inflight: &mut Inflight,
    areas: &mut usize,
) -> Result<(), BackendError> {
    for resume in [false, true] {
        inflight.begin(resume).map_err(BackendError::Setup)?;
        let Some((made, file)) = backend.make_inflight(4, 1024)? else {
            return Ok(());
        };
        let (offset, size) = (made.mmap_offset, made.mmap_size);
        let area = inflight.choose(Area { file, offset, size });
        assert_eq!(area.size, size, "an area of another size");
        let message = VhostUserInflight {
            mmap_offset: area.offset,
            ..made
        };
        backend.set_inflight(&message, area.file.as_raw_fd())?;
        *areas += 1;
    }
    Ok(())
}

fn share_in_folder(backend: &mut Backend, areas: &mut usize) -> Result<(), BackendError> {
    let Ok(name) = "fuzz".parse() else {
        return Ok(());
    };
    let own = format!("fuzz-{}-{:?}", process::id(), thread::current().id());
    let folder = env::temp_dir().join(own);
    let mut inflight = Inflight::in_folder(&folder, &name);
    let shared = share(backend, &mut inflight, areas);
    inflight.forget();
    let _ = fs::remove_dir(folder);
    shared
}

fn talk(backend: &mut Backend, areas: &mut usize) -> Result<(), BackendError> {
    let features = backend.features();
    if backend.has_config() {
        let config = backend.config(16)?;
        assert!(config.len() <= 16, "more config space than was asked for");
    }
    let _ = backend.takes_queue_size(0, 1024)?;
    backend.set_features(features)?;
    if let Ok(file) = File::open("/dev/zero") {
        backend.set_memory(file.as_raw_fd(), 0x1000, 0)?;
    }
    share_in_folder(backend, areas)?;
    let [Ok(kick), Ok(call)] = [EventFd::new(0), EventFd::new(0)] else {
        return Ok(());
    };
    for index in 0..backend.queue_count().unwrap_or(4).min(4) {
        let vring = Vring {
            index,
            size: 64,
            desc_address: 0,
            driver_address: 0x400,
            device_address: 0x800,
            base: 0,
        };
        backend.start_vring(&vring, &kick, &call)?;
    }
    let _ = backend.take_config_change();
    for queue in 0..4 {
        backend.stop_vring(queue)?;
    }
    Ok(())
}
