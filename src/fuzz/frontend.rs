// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A frontend whose messages are the input: for each, u8 number of descriptors, u16 length, and so
//! many bytes. A memory table comes with memory, and what is in flight with an area; for each such file
//! follow, behind the message, u8 number of words in it that are not 0, and of each u16 place / 8 and
//! u64 value. A channel for requests comes with a socket, everything else with eventfds.

use std::fs::File;
use std::io::IoSlice;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
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
const SET_BACKEND_REQ_FD: u8 = 21;
const SET_INFLIGHT_FD: u8 = 32;
/// What is not read must fit into the socket.
const LONGEST: usize = 2048;
/// More than the kernel driver's memory has for a sound device; nearly all of it holes.
const MEMORY: u64 = 1 << 24;

/// Says the input on the socket of a device; the device lives on and takes the next frontend.
pub fn vhost_user_device(input: &[u8]) {
    let _ = serve(input);
}

/// The same; returns the areas that the frontend handed over, as the device has left them.
pub(super) fn serve(input: &[u8]) -> Option<Vec<File>> {
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
    let mut areas = Vec::new();
    for input in [input, &[]] {
        let (ours, theirs) = UnixStream::pair().ok()?;
        areas.extend(say(&ours, input));
        ours.shutdown(Shutdown::Write).ok()?;
        listen::talk(theirs, &device, &offer);
        assert!(device.reset().is_ok(), "the audio thread is gone");
    }
    Some(areas)
}

/// Says all of it before the device hears the first word; returns the areas that it hands over.
fn say(socket: &UnixStream, input: &[u8]) -> Vec<File> {
    let mut areas = Vec::new();
    let mut input = Input(input.get(..LONGEST).unwrap_or(input));
    while !input.is_empty() {
        let count = usize::from(input.byte() % 10);
        let length = input.short().into();
        let message = input.bytes(length);
        if message.is_empty() {
            continue;
        }
        let kind = message.first().copied().unwrap_or_default();
        let files: Vec<_> = (0..count).filter_map(|_| file(kind, &mut input)).collect();
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
        if kind == SET_INFLIGHT_FD {
            areas.extend(files.into_iter().map(File::from));
        }
    }
    areas
}

/// What comes along with a message.
fn file(kind: u8, input: &mut Input) -> Option<OwnedFd> {
    match kind {
        SET_MEM_TABLE | SET_INFLIGHT_FD => memory(input),
        SET_BACKEND_REQ_FD => Some(UnixStream::pair().ok()?.0.into()),
        _ => Some(EventFd::new().ok()?.into()),
    }
}

/// A file with some words in it.
fn memory(input: &mut Input) -> Option<OwnedFd> {
    let file = File::from(memfd_create(c"memory", MFdFlags::empty()).ok()?);
    file.set_len(MEMORY).ok()?;
    for _ in 0..input.byte() {
        let at = u64::from(input.short()) * 8;
        file.write_all_at(&input.number::<8>(), at).ok()?;
    }
    Some(file.into())
}
