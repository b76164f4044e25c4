// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! I/O messages that no driver should send: each comes back, with a status where there is room for
//! one, while both streams run on as if nothing had been.

use crate::card::{Card, RX, STATUS_BYTES, TX, UNTOUCHED};
use crate::device::Device;
use crate::driver::{Buffer, INDIRECT, NEXT, WRITE};
use crate::memory::SIZE;
use crate::sound::*;

const OUTSIDE: [u64; 5] = [SIZE, SIZE - 79, u64::MAX - 79, u64::MAX, 1 << 63];

/// A card whose streams run, and which shows after every bad message that they still do.
struct Victim {
    card: Card,
    // Ends after the card.
    _device: Device,
}

impl Victim {
    fn new() -> Self {
        let device = Device::null();
        let mut card = Card::attach(&device);
        for stream in [0, 1] {
            card.prepare(stream, &SMALL);
            card.must(START, stream);
        }
        Self {
            card,
            _device: device,
        }
    }

    fn header(&self, stream: u32) -> Buffer {
        Buffer::readable(self.card.bytes(&stream.to_le_bytes()), 4)
    }

    fn samples(&self) -> Buffer {
        Buffer::readable(self.card.bytes(&[1; 80]), 80)
    }

    fn room(&self) -> Buffer {
        Buffer::writable(self.card.bytes(&[UNTOUCHED; 80]), 80)
    }

    fn status(&self) -> Buffer {
        Buffer::writable(self.card.status_room(), STATUS_BYTES)
    }

    /// The message is refused with a status, which lies in `status`.
    fn refuses(&mut self, queue: usize, shape: &[Buffer], status: Buffer) {
        let used = self.card.exchange(queue, shape);
        assert_eq!(used.length, STATUS_BYTES, "{shape:?}");
        let found = self.card.memory.read(status.address, 4);
        assert_eq!(found, words(&[BAD_MSG]), "{shape:?}");
        self.goes_on();
    }

    /// The message comes back, refused or with nothing written to it: where its status belongs is
    /// open to doubt.
    fn declines(&mut self, queue: usize, shape: &[Buffer], status: Buffer) {
        let used = self.card.exchange(queue, shape);
        assert!([0, STATUS_BYTES].contains(&used.length), "{shape:?}");
        let found = self.card.memory.read(status.address, 4);
        let expected = [words(&[BAD_MSG]), vec![UNTOUCHED; 4]];
        assert!(expected.contains(&found), "{found:?} for {shape:?}");
        self.goes_on();
    }

    /// The message comes back with nothing written to it.
    fn returns(&mut self, queue: usize, shape: &[Buffer]) {
        assert_eq!(self.card.exchange(queue, shape).length, 0, "{shape:?}");
        self.goes_on();
    }

    fn goes_on(&mut self) {
        let played = self.card.queue_playback(0, &[1; 8]);
        let captured = self.card.queue_capture(1, 8);
        self.card.kick(TX);
        self.card.kick(RX);
        self.card.completion(TX).expect_played(played);
        self.card.completion(RX).expect_captured(captured, 8);
    }

    /// Adds a chain that the driver side would not make; it comes back. In `next`, numbers of the
    /// chain's own descriptors stand for them, others for themselves.
    fn survives(&mut self, queue: usize, descriptors: &[(Buffer, u16, u16)]) {
        let shape: Vec<_> = descriptors.iter().map(|(buffer, ..)| *buffer).collect();
        let ring = &mut self.card.queues[queue];
        let indices = ring.chain(&shape);
        for (&index, &(buffer, flags, next)) in indices.iter().zip(descriptors) {
            let next = indices.get(usize::from(next)).copied().unwrap_or(next);
            ring.write_descriptor(index, buffer, flags, next);
        }
        ring.offer(indices[0]);
        ring.kick();
        assert_eq!(ring.wait_used().head, indices[0]);
        self.goes_on();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.card.close(0);
            self.card.close(1);
            self.card.expect_service();
        }
    }
}

#[test]
fn headers_that_are_missing_or_short() {
    let mut victim = Victim::new();
    for queue in [TX, RX] {
        for length in 0..4 {
            let header = victim.header(0);
            let short = Buffer::readable(header.address, length);
            let status = victim.status();
            victim.refuses(queue, &[short, status], status);
        }
        let status = victim.status();
        victim.refuses(queue, &[status], status);
    }
}

#[test]
fn streams_that_do_not_exist_or_go_the_other_way() {
    let mut victim = Victim::new();
    for (queue, strangers) in [(TX, [1, 2, 3, u32::MAX]), (RX, [0, 2, 3, u32::MAX])] {
        for stream in strangers {
            let status = victim.status();
            let header = victim.header(stream);
            match queue {
                TX => victim.refuses(queue, &[header, victim.samples(), status], status),
                _ => {
                    // The status lies behind the room, whose bytes stay as they are.
                    let room = victim.room();
                    victim.refuses(queue, &[header, room, status], status);
                    let found = victim.card.memory.read(room.address, 80);
                    assert_eq!(found, [UNTOUCHED; 80]);
                }
            }
        }
    }
}

#[test]
fn messages_without_room_for_a_status() {
    let mut victim = Victim::new();
    let (play, record) = (victim.header(0), victim.header(1));
    let samples = victim.samples();
    let status = victim.status();
    let readable_status = Buffer::readable(status.address, STATUS_BYTES);
    victim.returns(TX, &[play]);
    victim.returns(TX, &[play, samples]);
    // A status that may only be read.
    victim.returns(TX, &[play, samples, readable_status]);
    victim.returns(RX, &[record, readable_status]);
    for length in 0..STATUS_BYTES {
        let short = Buffer::writable(status.address, length);
        victim.returns(TX, &[play, samples, short]);
        victim.returns(RX, &[record, short]);
    }
    let found = victim.card.memory.read(status.address, 8);
    assert_eq!(found, [UNTOUCHED; 8]);
}

#[test]
fn messages_without_a_sample_or_with_a_part_of_a_frame() {
    let mut victim = Victim::new();
    let status = victim.status();
    let (play, record) = (victim.header(0), victim.header(1));
    victim.refuses(TX, &[play, status], status);
    victim.refuses(RX, &[record, status], status);
    let nothing = Buffer::readable(status.address, 0);
    victim.refuses(TX, &[play, nothing, status], status);
    // Frames of 4 bytes.
    let wide = Params {
        format: S16,
        channels: 2,
        ..SMALL
    };
    for stream in [0, 1] {
        victim.card.close(stream);
        victim.card.prepare(stream, &wide);
        victim.card.must(START, stream);
    }
    for length in [1, 2, 3, 5, 79] {
        let samples = Buffer {
            length,
            ..victim.samples()
        };
        let room = Buffer {
            length,
            ..victim.room()
        };
        victim.refuses(TX, &[play, samples, status], status);
        victim.refuses(RX, &[record, room, status], status);
    }
}

#[test]
fn readable_and_writable_parts_in_the_wrong_order() {
    let mut victim = Victim::new();
    let (play, record) = (victim.header(0), victim.header(1));
    let (samples, room) = (victim.samples(), victim.room());
    for shape in [
        vec![samples],
        vec![play, room, samples],
        vec![room, play, samples],
    ] {
        let mut shape = shape;
        let status = victim.status();
        shape.push(status);
        victim.declines(TX, &shape, status);
    }
    let writable_header = Buffer::writable(record.address, 4);
    let status = victim.status();
    victim.declines(RX, &[writable_header, room, status], status);
    let status = victim.status();
    victim.declines(RX, &[room, record, status], status);
}

#[test]
fn parts_that_are_empty_are_passed_over() {
    let mut victim = Victim::new();
    let status = victim.status();
    let (play, samples) = (victim.header(0), victim.samples());
    let empty = |address| Buffer::readable(address, 0);
    let shape = [
        empty(samples.address),
        play,
        empty(play.address),
        samples,
        status,
    ];
    let used = victim.card.exchange(TX, &shape);
    assert_eq!(used.length, STATUS_BYTES);
    // Played or refused, but answered.
    let found = victim.card.memory.read(status.address, 4);
    assert!([words(&[OK]), words(&[BAD_MSG])].contains(&found));
    victim.goes_on();
}

#[test]
fn parts_outside_of_the_memory() {
    let mut victim = Victim::new();
    let (play, record) = (victim.header(0), victim.header(1));
    for address in OUTSIDE {
        let status = victim.status();
        let (samples, room) = (Buffer::readable(address, 80), Buffer::writable(address, 80));
        victim.refuses(TX, &[play, samples, status], status);
        victim.refuses(RX, &[record, room, status], status);
        let stray_header = Buffer::readable(address.saturating_add(79), 4);
        let samples = victim.samples();
        victim.refuses(TX, &[stray_header, samples, status], status);
        let stray_status = Buffer::writable(address.saturating_add(79), STATUS_BYTES);
        victim.returns(TX, &[play, samples, stray_status]);
        victim.returns(RX, &[record, stray_status]);
    }
}

#[test]
fn lengths_that_overflow() {
    // A chain of 2^32 bytes or more is none (2.7.5.1); a shorter one reaches outside.
    let mut victim = Victim::new();
    let (play, record) = (victim.header(0), victim.header(1));
    let (samples, room) = (victim.samples(), victim.room());
    for length in [u32::MAX, u32::MAX - 3, 1 << 31, SIZE as u32] {
        let status = victim.status();
        let samples = Buffer { length, ..samples };
        let room = Buffer { length, ..room };
        victim.declines(TX, &[play, samples, status], status);
        victim.declines(TX, &[play, samples, samples, samples, status], status);
        victim.declines(RX, &[record, room, status], status);
        victim.declines(RX, &[record, room, room, status], status);
    }
}

#[test]
fn more_than_4_gib_of_memory_that_is_there_in_one_message() {
    let mut victim = Victim::new();
    let play = victim.header(0);
    // 100 times most of the memory, from the first page on.
    let much = Buffer::readable(4096, SIZE as u32 - 4096);
    let status = victim.status();
    let mut shape = vec![play];
    shape.extend([much; 100]);
    shape.push(status);
    let head = victim.card.queues[TX].add(&shape);
    victim.card.kick(TX);
    // Taken or refused; RELEASE brings it back if it is still there.
    victim.card.pcm_infos(2);
    victim.card.close(0);
    assert_eq!(victim.card.queues[TX].take_used().unwrap().head, head);
    victim.card.prepare(0, &SMALL);
    victim.card.must(START, 0);
    victim.goes_on();
}

#[test]
fn chains_that_loop_lead_out_of_the_table_or_to_another_one() {
    let mut victim = Victim::new();
    let (play, record) = (victim.header(0), victim.header(1));
    let (samples, room) = (victim.samples(), victim.room());
    let status = victim.status();
    let table = Buffer::readable(victim.card.bytes(&[0xff; 64]), 64);
    victim.survives(TX, &[(play, NEXT, 0)]);
    victim.survives(TX, &[(play, NEXT, 1), (samples, NEXT, 1)]);
    victim.survives(TX, &[(play, NEXT, 1), (samples, NEXT, 0)]);
    victim.survives(TX, &[(status, NEXT | WRITE, 0)]);
    victim.survives(
        TX,
        &[
            (play, NEXT, 1),
            (samples, NEXT, 2),
            (status, NEXT | WRITE, 2),
        ],
    );
    victim.survives(RX, &[(record, NEXT, 1), (room, NEXT | WRITE, 0)]);
    for next in [256, 257, 0x7fff, u16::MAX] {
        victim.survives(TX, &[(play, NEXT, next)]);
        victim.survives(RX, &[(record, NEXT, 1), (room, NEXT | WRITE, next)]);
    }
    victim.survives(TX, &[(table, INDIRECT, 0)]);
    victim.survives(TX, &[(play, NEXT, 1), (table, INDIRECT | NEXT, 0)]);
    victim.survives(RX, &[(table, INDIRECT | WRITE, 0)]);
}

#[test]
fn looped_capture_rooms_are_no_endless_work() {
    let mut victim = Victim::new();
    let (record, room) = (victim.header(1), victim.room());
    victim.survives(RX, &[(record, NEXT, 1), (room, NEXT | WRITE, 1)]);
}
