// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Messages in tables of indirect descriptors (virtio 1.3, 2.7.5.3): what a frontend with short
//! queues needs, as QEMU is one.

use crate::card::{Card, RX, STATUS_BYTES, TX};
use crate::device::Device;
use crate::driver::{Buffer, INDIRECT, NEXT, WRITE};
use crate::frontend::{EVENT_IDX, INDIRECT_DESC};
use crate::memory::SIZE;
use crate::sound::*;
use crate::wav;

/// 13 pages each: eight of them do not fit into 64 descriptors.
const LONG: Params = Params {
    buffer_bytes: 8 * 52_000,
    period_bytes: 52_000,
    channels: 2,
    format: S16,
    rate: RATE_48000,
    ..SMALL
};

fn attach(device: &Device) -> Card {
    Card::attach_with(device, [64; 4], EVENT_IDX | INDIRECT_DESC)
}

#[test]
fn long_periods_play_through_a_short_queue() {
    let device = Device::player();
    let samples = noise(8 * 52_000, 1);
    attach(&device).play(0, &LONG, &samples);
    assert!(wav::read(&device.path("out.wav")).1 == samples);
}

#[test]
fn long_periods_are_captured_through_a_short_queue() {
    let folder = tempfile::tempdir().unwrap();
    let samples = noise(8 * 52_000, 2);
    wav::write(
        &folder.path().join("in.wav"),
        wav::spec(48_000, 2, 16),
        &samples,
    );
    let device = Device::start_in(folder, &["--host", "file", "--capture-file", "in.wav"]);
    assert!(attach(&device).record(0, &LONG, 8) == samples);
}

/// A card whose streams run, with a message in a crooked table; the table comes back, and both
/// streams go on.
fn survives(queue: usize, table: impl FnOnce(&Card) -> Buffer) {
    let device = Device::null();
    let mut card = attach(&device);
    for stream in [0, 1] {
        card.prepare(stream, &SMALL);
        card.must(START, stream);
    }
    let table = table(&card);
    let head = card.queues[queue].add_table(table);
    card.queues[queue].kick();
    assert_eq!(card.queues[queue].wait_used().head, head);
    let played = card.queue_playback(0, &[1; 80]);
    card.kick(TX);
    card.completion(TX).expect_played(played);
    let captured = card.queue_capture(1, 80);
    card.kick(RX);
    card.completion(RX).expect_captured(captured, 80);
    card.close(0);
    card.close(1);
}

#[test]
fn tables_that_are_none_come_back() {
    for queue in [TX, RX] {
        for table in [
            Buffer::readable(SIZE, 64),
            Buffer::readable(SIZE - 16, 64),
            Buffer::readable(u64::MAX - 15, 64),
            Buffer::readable(0, 0),
            Buffer::readable(0, 15),
            Buffer::readable(0, u32::MAX),
        ] {
            survives(queue, |_| table);
        }
    }
}

#[test]
fn a_table_in_a_table_comes_back() {
    survives(TX, |card| {
        let inner = card.queues[TX].table(&[Buffer::readable(card.bytes(&[0; 4]), 4)]);
        let outer = card.queues[TX].table(&[inner]);
        card.queues[TX].write_descriptor_at(outer.address, inner, INDIRECT, 0);
        outer
    });
}

#[test]
fn a_table_that_loops_comes_back() {
    survives(TX, |card| {
        let samples = Buffer::readable(card.bytes(&[0; 80]), 80);
        let table = card.queues[TX].table(&[samples, samples]);
        for place in 0..2 {
            let at = table.address + 16 * place;
            card.queues[TX].write_descriptor_at(at, samples, NEXT, 1 - place as u16);
        }
        table
    });
}

#[test]
fn the_longest_table_of_all_comes_back_and_nothing_waits_for_it() {
    for (queue, flags) in [(TX, 0), (RX, WRITE)] {
        survives(queue, |card| {
            let header = Buffer::readable(card.bytes(&u32::from(queue == RX).to_le_bytes()), 4);
            let mut byte = Buffer::readable(card.bytes(&[0]), 1);
            byte.writable = flags == WRITE;
            let mut parts = vec![byte; 65_535];
            parts[0] = header;
            parts[65_534] = Buffer::writable(card.status_room(), STATUS_BYTES);
            card.queues[queue].table(&parts)
        });
    }
}
