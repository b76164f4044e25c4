// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A driver whose moves are the input: messages of any layout, nonsense anywhere in its memory, time.
//!
//! | first byte & 15 | what follows | move |
//! |---|---|---|
//! | 0 | u16 | time goes on by so many 10 µs |
//! | 1 to 4 | parts | a message for queue 0 to 3 |
//! | 5 | u16 place / 4, u8 length, bytes | writes into its memory |
//! | 6 | u8 queue, u16 head | makes any head available |
//! | 7 | u8 jack state | something is plugged or pulled |
//! | 8 | u8 queue, u16 index | sets the index of the available ring |
//! | 9 to 12 | parts | as 1 to 4, in a table of its own |
//! | 13 | u8 stream | sound of it is lost |
//! | 14 | u8 control element, u16 mask | this of it has changed |
//!
//! Parts: u8 count, and for each u8 (1: writable), u16 length and, where it is readable, u8 length and
//! so many bytes.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::{Bytes, GuestAddress};

use super::Input;
use crate::audio::Nanos;
use crate::card::Card;
use crate::events::Notice;
use crate::memory::Memory;
use crate::report;
use crate::ring::Setup;
use crate::run::hosts;
use crate::wire::{PCM_EVT_XRUNS, QUEUE_CONTROL, QUEUE_EVENT, QUEUE_RX, QUEUE_TX, QUEUES};

const SIZE: u16 = 64;
const MEMORY: u64 = 1 << 18;
/// Where buffers are, one after the other and round again.
const BUFFERS: u64 = 0x8000;
/// More moves are more of the same.
const MOVES: usize = 256;
/// A room for one event, as parts of a message, and how many a driver has at first.
const ROOM: [u8; 4] = [1, 1, 8, 0];
const ROOMS: u16 = 16;

const READABLE: u16 = 0;
const NEXT: u16 = 1;
const WRITABLE: u16 = 2;
const INDIRECT: u16 = 4;

struct Driver {
    card: Card,
    memory: Arc<Memory>,
    now: Nanos,
    added: [u16; QUEUES],
    next: u16,
    buffer: u64,
    _reports: report::Reports,
}

/// Requests and their answers.
pub fn control(input: &[u8]) {
    run(input, |_| {});
}

/// Sound in both directions.
pub fn transfer(input: &[u8]) {
    run(input, |driver| driver.play(0));
}

/// What the device tells by itself: to a driver that is far enough to hear it, wants to hear of lost sound, and
/// has room for some of it.
pub fn events(input: &[u8]) {
    run(input, |driver| {
        driver.play(PCM_EVT_XRUNS as u8);
        for _ in 0..ROOMS {
            driver.message(QUEUE_EVENT, &mut Input(&ROOM), false);
        }
    });
}

fn run(input: &[u8], set_up: impl FnOnce(&mut Driver)) {
    let Some(mut driver) = Driver::new() else {
        return;
    };
    set_up(&mut driver);
    let mut input = Input(input);
    for _ in 0..MOVES {
        if input.is_empty() {
            break;
        }
        driver.make(&mut input);
    }
    driver.expect_service();
}

impl Driver {
    fn new() -> Option<Self> {
        let description = super::description();
        let host = hosts::open(&description).ok()?;
        let (reporter, reports) = report::channel(4).ok()?;
        let file = memfd_create(c"driver", MFdFlags::empty()).ok()?;
        let mut driver = Self {
            card: Card::new(Box::new(host), &description, &[], reporter),
            memory: Arc::new(map(file)?),
            now: 1_000_000_000,
            added: [0; QUEUES],
            next: 0,
            buffer: BUFFERS,
            _reports: reports,
        };
        driver.card.accept_features(driver.card.features());
        driver.start();
        Some(driver)
    }

    /// All rings, empty.
    fn start(&mut self) {
        self.write(0, &vec![0; BUFFERS as usize]);
        self.added = [0; QUEUES];
        for queue in 0..QUEUES {
            let [desc, avail, used] = place(queue).map(GuestAddress);
            let setup = Setup {
                size: SIZE,
                desc,
                avail,
                used,
                base: 0,
                event_idx: true,
                enabled: true,
                kick: None,
                call: None,
                err: None,
            };
            let started = self.card.start_ring(queue, setup, &self.memory, self.now);
            assert!(started.is_ok(), "an empty ring is refused");
        }
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        // What does not fit is not written.
        let _ = self
            .memory
            .map()
            .write_slice(bytes, GuestAddress(at % MEMORY));
    }

    fn make(&mut self, input: &mut Input) {
        let order = input.byte() & 15;
        match order {
            1..=4 => self.message(usize::from(order - 1), input, false),
            9..=12 => self.message(usize::from(order - 9), input, true),
            5 => {
                let at = u64::from(input.short()) * 4;
                let length = input.byte().into();
                self.write(at, input.bytes(length));
            }
            6 => {
                let queue = usize::from(input.byte()) % QUEUES;
                self.offer(queue, input.short());
            }
            7 => {
                let plugged = input.byte() & 1 == 1;
                self.card.tell(Notice::Jack { id: 0, plugged });
            }
            8 => {
                let queue = usize::from(input.byte()) % QUEUES;
                self.set_index(queue, input.short());
            }
            13 => {
                let stream = input.byte().into();
                self.card.tell(Notice::Xrun { stream });
            }
            14 => {
                let (id, mask) = (input.byte().into(), input.short());
                self.card.tell(Notice::Control { id, mask });
            }
            _ => self.now += Nanos::from(input.short()) * 10_000,
        }
        self.card.serve(self.now);
        let _ = self.card.deadline(self.now);
    }

    /// Puts a message together and makes it available.
    fn message(&mut self, queue: usize, input: &mut Input, table: bool) {
        let count = u16::from(input.byte() % 16).max(1);
        let mut descriptors = Vec::new();
        for part in 0..count {
            let writable = input.byte() & 1 == 1;
            let length = u32::from(input.short());
            let at = self.room(length);
            if !writable {
                let given = input.byte().into();
                self.write(at, input.bytes(given));
            }
            let more = if part + 1 < count { NEXT } else { 0 };
            let flags = more | if writable { WRITABLE } else { READABLE };
            descriptors.push((at, length, flags));
        }
        let [desc, ..] = place(queue);
        let head = self.next;
        if table {
            let at = self.room(16 * u32::from(count));
            self.put(at, &descriptors, |place| place + 1);
            self.next = (head + 1) % SIZE;
            let whole = [(at, 16 * u32::from(count), INDIRECT)];
            self.put(desc + 16 * u64::from(head), &whole, |_| 0);
        } else {
            for (place, descriptor) in (0..).zip(descriptors) {
                let index = (head + place) % SIZE;
                let at = desc + 16 * u64::from(index);
                self.put(at, &[descriptor], |_| (index + 1) % SIZE);
            }
            self.next = (head + count) % SIZE;
        }
        self.offer(queue, head);
    }

    /// Writes descriptors; `next` is what each names as the one behind it.
    fn put(&self, at: u64, descriptors: &[(u64, u32, u16)], next: impl Fn(u16) -> u16) {
        for (place, (address, length, flags)) in (0..).zip(descriptors) {
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend(length.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend(next(place).to_le_bytes());
            self.write(at + 16 * u64::from(place), &bytes);
        }
    }

    fn room(&mut self, length: u32) -> u64 {
        let length = u64::from(length).next_multiple_of(16);
        if self.buffer + length > MEMORY {
            self.buffer = BUFFERS;
        }
        let at = self.buffer;
        self.buffer += length;
        at
    }

    fn offer(&mut self, queue: usize, head: u16) {
        let [_, avail, _] = place(queue);
        let added = self.added.get(queue).copied().unwrap_or_default();
        self.write(avail + 4 + 2 * u64::from(added % SIZE), &head.to_le_bytes());
        self.set_index(queue, added.wrapping_add(1));
    }

    fn set_index(&mut self, queue: usize, index: u16) {
        if let Some(added) = self.added.get_mut(queue) {
            *added = index;
        }
        let [_, avail, _] = place(queue);
        self.write(avail + 2, &index.to_le_bytes());
    }

    /// One request; whether the device says OK.
    fn request(&mut self, bytes: &[u8]) -> bool {
        let mut moves = vec![2, 0];
        moves.extend((bytes.len() as u16).to_le_bytes());
        moves.push(bytes.len() as u8);
        moves.extend(bytes);
        moves.extend([1, 64, 0]);
        // The answer goes behind the request, in whole lines of 16.
        let answer = self.room(0) + bytes.len().next_multiple_of(16) as u64;
        self.message(QUEUE_CONTROL, &mut Input(&moves), false);
        self.card.serve(self.now);
        let mut status = [0; 4];
        let read = self
            .memory
            .map()
            .read_slice(&mut status, GuestAddress(answer));
        read.is_ok() && u32::from_le_bytes(status) == 0x8000
    }

    /// Both streams run, with a period of 1 ms: S16, 48 kHz, two channels, and these features.
    fn play(&mut self, features: u8) {
        for stream in [0u8, 1] {
            let mut set = vec![
                1, 1, 0, 0, stream, 0, 0, 0, 0, 3, 0, 0, 192, 0, 0, 0, features, 0, 0, 0,
            ];
            set.extend([2, 5, 7, 0]);
            assert!(self.request(&set), "the parameters are refused");
            for code in [2, 4] {
                let done = self.request(&[code, 1, 0, 0, stream, 0, 0, 0]);
                assert!(done, "request {code} of stream {stream} is refused");
            }
        }
    }

    /// Whatever was before: a driver that starts anew is served.
    fn expect_service(&mut self) {
        self.card.reset(self.now);
        self.buffer = BUFFERS;
        self.next = 0;
        self.start();
        self.play(0);
        self.message(QUEUE_EVENT, &mut Input(&ROOM), false);
        self.card.tell(Notice::Xrun { stream: 0 });
        let data = [3, 0, 4, 0, 4, 0, 0, 0, 0, 0, 192, 0, 0, 1, 8, 0];
        self.message(QUEUE_TX, &mut Input(&data), false);
        let room = [3, 0, 4, 0, 4, 1, 0, 0, 0, 1, 192, 0, 1, 8, 0];
        self.message(QUEUE_RX, &mut Input(&room), false);
        self.card.serve(self.now);
        self.now += 5_000_000;
        self.card.serve(self.now);
        for queue in [QUEUE_EVENT, QUEUE_TX, QUEUE_RX] {
            let [.., used] = place(queue);
            let mut index = [0; 2];
            let read = self
                .memory
                .map()
                .read_slice(&mut index, GuestAddress(used + 2));
            assert!(
                read.is_ok() && index == [1, 0],
                "queue {queue} is not served: {index:?}"
            );
        }
    }
}

/// Descriptor table, available ring and used ring of a queue.
fn place(queue: usize) -> [u64; 3] {
    let start = 0x1000 + queue as u64 * 0x1000;
    [start, start + 0x400, start + 0x800]
}

fn map(file: OwnedFd) -> Option<Memory> {
    let file = File::from(file);
    file.set_len(MEMORY).ok()?;
    let region = VhostUserMemoryRegion {
        guest_phys_addr: 0,
        memory_size: MEMORY,
        user_addr: 0,
        mmap_offset: 0,
    };
    Memory::new(&[region], vec![file]).ok()
}
