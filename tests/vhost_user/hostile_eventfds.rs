// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Eventfds of a frontend of ill will. The device process shares the open file with it, so whether those wait
//! who cannot read or write at once is for both to say, and the frontend says it last.

use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::card::{CONTROL, Card, RX, TX};
use crate::commands::tell;
use crate::device::Device;
use crate::driver::Buffer;
use crate::events;
use crate::raw_frontend::*;
use crate::sound::*;

/// More than that no write brings the counter of an eventfd to: the next one waits.
const FULL: u64 = u64::MAX - 1;

fn eventfd(counter: u64) -> EventFd {
    let file = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap();
    file.write(counter).unwrap();
    file
}

/// Whether the device takes a file for a queue.
fn takes(card: &Card, request: u32, queue: usize, file: RawFd) -> bool {
    let mut raw = card.frontend.as_ref().unwrap().raw();
    raw.accepts(request, &(queue as u64).to_le_bytes(), &[file])
}

/// Hands over an eventfd on which those are to wait who cannot go on.
fn hand_over(card: &Card, request: u32, queue: usize, file: &EventFd) {
    assert!(takes(card, request, queue, file.as_raw_fd()));
    fcntl(file, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
}

/// A card both of whose streams run.
fn running(device: &Device) -> Card {
    let mut card = Card::attach(device);
    for stream in [0, 1] {
        card.prepare(stream, &SMALL);
        card.must(START, stream);
    }
    card
}

/// Adds a message to a queue.
fn add(card: &mut Card, queue: usize) {
    match queue {
        TX => drop(card.queue_playback(0, &[1; 80])),
        RX => drop(card.queue_capture(1, 80)),
        _ => {
            let request = card.bytes(&words(&[PCM_INFO, 0, 1, PCM_INFO_BYTES]));
            let room = 4 + PCM_INFO_BYTES;
            let answer = card.bytes(&vec![0; room as usize]);
            let parts = [
                Buffer::readable(request, 16),
                Buffer::writable(answer, room),
            ];
            card.queues[queue].add(&parts);
        }
    }
}

/// Waits until all messages of a queue are back, for no interrupt may say so.
fn wait_until_all_are_back(card: &Card, queue: usize) {
    card.wait_until("all messages come back", |card| {
        let queue = &card.queues[queue];
        queue.used_index_in_memory() == queue.avail_index
    });
}

/// Whether everybody else is served: clients of the command socket, and the next frontend.
fn serves_the_others(device: &Device, card: Card) {
    let (answered, status) = tell(device, &["status"]);
    assert!(answered, "{status}");
    drop(card);
    Card::attach(device).expect_service();
}

#[test]
fn a_driver_that_cannot_be_interrupted_holds_nobody_up() {
    let device = events::device();
    for queue in [CONTROL, TX, RX] {
        let mut card = running(&device);
        let call = eventfd(FULL);
        hand_over(&card, SET_VRING_CALL, queue, &call);
        for one in [queue, CONTROL, TX, RX] {
            add(&mut card, one);
            card.queues[one].kick();
            wait_until_all_are_back(&card, one);
        }
        assert_eq!(call.read().unwrap(), FULL);
        serves_the_others(&device, card);
    }
}

#[test]
fn a_driver_that_cannot_be_told_of_its_broken_ring_holds_nobody_up() {
    let device = events::device();
    let card = running(&device);
    let (err, kick) = (eventfd(FULL), eventfd(0));
    hand_over(&card, SET_VRING_ERR, TX, &err);
    hand_over(&card, SET_VRING_KICK, TX, &kick);
    let ring = &card.queues[TX];
    card.memory
        .store16(ring.avail + 2, ring.avail_index.wrapping_add(257));
    kick.write(1).unwrap();
    card.wait_until("the ring is given up", |_| {
        device.log().contains("queue 2 is not served any more")
    });
    serves_the_others(&device, card);
}

#[test]
fn a_kick_that_another_queue_has_taken_holds_nobody_up() {
    let device = events::device();
    let mut card = Card::attach(&device);
    let kick = eventfd(0);
    for queue in [CONTROL, TX, RX] {
        hand_over(&card, SET_VRING_KICK, queue, &kick);
    }
    for _ in 0..10 {
        add(&mut card, CONTROL);
        kick.write(1).unwrap();
        wait_until_all_are_back(&card, CONTROL);
    }
    serves_the_others(&device, card);
}

#[test]
fn a_kick_that_is_the_interrupt_too_holds_nobody_up() {
    let device = events::device();
    let mut card = running(&device);
    for queue in [CONTROL, TX, RX] {
        let both = eventfd(0);
        hand_over(&card, SET_VRING_CALL, queue, &both);
        hand_over(&card, SET_VRING_KICK, queue, &both);
        for _ in 0..10 {
            add(&mut card, queue);
            both.write(1).unwrap();
            wait_until_all_are_back(&card, queue);
        }
    }
    serves_the_others(&device, card);
}

#[test]
fn a_file_that_is_no_eventfd_is_refused() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let zero = OpenOptions::new().read(true).write(true).open("/dev/zero");
    let zero = zero.unwrap();
    let pipe = nix::unistd::pipe().unwrap();
    let sockets = UnixStream::pair().unwrap();
    for (name, file) in [
        ("/dev/zero", zero.as_raw_fd()),
        ("read end of a pipe", pipe.0.as_raw_fd()),
        ("write end of a pipe", pipe.1.as_raw_fd()),
        ("socket", sockets.0.as_raw_fd()),
        ("memory", card.memory.fd()),
    ] {
        for request in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
            let taken = takes(&card, request, TX, file);
            assert!(!taken, "{name}, request {request}");
        }
    }
    let log = device.log();
    assert!(log.contains("no eventfd"), "{log}");
    card.expect_service();
}
