// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A reply with a file that there is no descriptor for. A program of its own: the limit is all of a process's.

#![allow(
    clippy::unwrap_used,
    reason = "a test, also where clippy.toml does not see it: outside of #[test] functions"
)]

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use vhost::vhost_user::message::VhostUserInflight;
use virtio_loopback::backend::{Backend, BackendError};
use virtio_loopback::shortage::is_shortage;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// A reply of the device process: 5 is version 1 and the flag of replies.
fn reply(request: u32, body: &[u8]) -> Vec<u8> {
    let words = [request, 5, body.len() as u32].map(u32::to_le_bytes);
    [words.as_flattened(), body].concat()
}

#[test]
fn a_file_that_there_is_no_descriptor_for_is_a_shortage_and_waits() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    // Protocol features, and INFLIGHT_SHMFD alone of them.
    for (request, answer) in [(1, 1u64 << 30), (15, 1 << 12)] {
        let reply = reply(request, &answer.to_le_bytes());
        theirs.write_all(&reply).unwrap();
    }
    let made = VhostUserInflight::new(16, 0, 1, 64);
    let reply = reply(31, vm_memory::ByteValued::as_slice(&made));
    let area = memfd_create(c"area", MFdFlags::empty()).unwrap();
    theirs.send_with_fd(&reply[..], area.as_raw_fd()).unwrap();
    let limit = Duration::from_secs(5);
    let mut backend = Backend::negotiate(ours, 1, limit, Default::default()).unwrap();

    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let next = File::open("/dev/null").unwrap().as_raw_fd();
    setrlimit(Resource::RLIMIT_NOFILE, next.try_into().unwrap(), hard).unwrap();
    let since = Instant::now();
    let error = backend.make_inflight(1, 64).err().unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(matches!(error, BackendError::Setup(_)), "{error:?}");
    assert!(is_shortage(&error) && !error.is_refusal() && !error.is_closed());
    assert!(since.elapsed() < limit);
    assert!(backend.make_inflight(1, 64).unwrap().is_some());
}
