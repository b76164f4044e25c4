// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A frontend whose messages are the input: for each, u8 number of descriptors, u16 length, and so
//! many bytes. A memory table comes with memory, everything else with eventfds.

use std::fs::File;
use std::io::IoSlice;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::sys::eventfd::EventFd;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::Input;
use crate::audio_thread::AudioThread;
use crate::card::Card;
use crate::device::Device;
use crate::process::Priority;
use crate::report;
use crate::run::{hosts, listen};
use crate::sandbox::Rights;
use crate::session::Offer;

const SET_MEM_TABLE: u8 = 5;
/// What is not read must fit into the socket.
const LONGEST: usize = 2048;
const MEMORY: u64 = 1 << 16;

/// Says the input on the socket of a device; the device lives on and takes the next frontend.
pub fn vhost_user_device(input: &[u8]) {
    let _ = serve(input);
}

fn serve(input: &[u8]) -> Option<()> {
    let description = super::description();
    let (reporter, _reports) = report::channel(4).ok()?;
    let host = Box::new(hosts::open(&description).ok()?);
    let card = Card::new(host, &description, &[], reporter);
    let offer = Offer {
        config: card.config_space(),
        features: card.features(),
        words: card.words(),
    };
    let thread = AudioThread::start(Priority::Ordinary, Rights::all()).ok()?;
    let device = Arc::new(Device::start(thread, card).ok()?);
    for input in [input, &[]] {
        let (ours, theirs) = UnixStream::pair().ok()?;
        say(&ours, input);
        ours.shutdown(Shutdown::Write).ok()?;
        listen::talk(theirs, &device, &offer);
        assert!(device.reset().is_ok(), "the audio thread is gone");
    }
    Some(())
}

/// Says all of it before the device hears the first word.
fn say(socket: &UnixStream, input: &[u8]) {
    let mut input = Input(input.get(..LONGEST).unwrap_or(input));
    while !input.is_empty() {
        let count = usize::from(input.byte() % 10);
        let length = input.short().into();
        let message = input.bytes(length);
        if message.is_empty() {
            continue;
        }
        let memory = message.first() == Some(&SET_MEM_TABLE);
        let files: Vec<_> = (0..count).filter_map(|_| file(memory)).collect();
        let numbers: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if numbers.is_empty() { &[][..] } else { &rights };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let _ = sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(message)],
            rights,
            flags,
            None,
        );
    }
}

fn file(memory: bool) -> Option<OwnedFd> {
    if memory {
        let file = File::from(memfd_create(c"memory", MFdFlags::empty()).ok()?);
        file.set_len(MEMORY).ok()?;
        return Some(file.into());
    }
    Some(OwnedFd::from(EventFd::new().ok()?))
}
