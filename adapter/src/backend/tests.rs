// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::mpsc;

use nix::libc::linger;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{setsockopt, sockopt};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::*;

/// `VHOST_USER_GET_INFLIGHT_FD`
const GET_INFLIGHT_FD: u32 = 31;

/// A reply: 5 is version 1 and the flag of replies.
fn reply(request: u32, body: &[u8]) -> Vec<u8> {
    let words = [request, 5, body.len() as u32].map(u32::to_le_bytes);
    [words.as_flattened(), body].concat()
}

/// What becomes of an area in a file that a device process gives, and lets go of.
fn make_in(file: impl AsRawFd) -> Result<Option<(VhostUserInflight, File)>, BackendError> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let protocol = VhostUserProtocolFeatures::INFLIGHT_SHMFD.bits();
    let features = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    for (request, answer) in [(1, features), (15, protocol)] {
        let reply = reply(request, &answer.to_le_bytes());
        theirs.write_all(&reply).unwrap();
    }
    let made = VhostUserInflight::new(16, 0, 4, 64);
    let reply = reply(GET_INFLIGHT_FD, vm_memory::ByteValued::as_slice(&made));
    theirs.send_with_fd(&reply[..], file.as_raw_fd()).unwrap();
    drop(file);
    let mut backend = Backend::negotiate(ours, 4, ANSWER_LIMIT, Default::default()).unwrap();
    backend.make_inflight(4, 64)
}

#[test]
fn an_area_has_to_lie_in_memory() {
    let (made, _) = make_in(memfd_create(c"area", MFdFlags::empty()).unwrap())
        .unwrap()
        .unwrap();
    assert_eq!((made.mmap_size, made.queue_size), (16, 64));
    // It is a regular file, and can be read.
    let foreign = File::open("/proc/self/status").unwrap();
    assert!(foreign.metadata().unwrap().is_file());
    let error = make_in(foreign).err().unwrap();
    let step = Step::GetInflightFd { size: 64 };
    assert!(
        matches!(error, BackendError::NotInMemory { step: found } if found == step),
        "{error}"
    );
    assert!(error.is_refusal() && !error.is_closed());
}

/// Whoever closes the first waits until the second has read everything, or much longer than a test takes.
fn kept_open() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    while (&ours).write(&[0; 1 << 16]).is_ok() {}
    let (l_onoff, l_linger) = (1, 600);
    setsockopt(&ours, sockopt::Linger, &linger { l_onoff, l_linger }).unwrap();
    (ours, peer)
}

#[test]
fn nobody_waits_for_the_close_of_an_area_that_is_refused() {
    let (file, mut peer) = kept_open();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(make_in(file).is_err()));
    assert_eq!(told.recv_timeout(4 * ANSWER_LIMIT), Ok(true));
    // It is closed all the same.
    io::copy(&mut peer, &mut io::sink()).unwrap();
}
