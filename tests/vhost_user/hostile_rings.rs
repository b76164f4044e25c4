// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Rings with nonsense in them, and rings that go round.

use crate::card::{CONTROL, Card, EVENT, RX, STATUS_BYTES, TX};
use crate::device::Device;
use crate::driver::Buffer;
use crate::frontend::EVENT_IDX;
use crate::sound::*;

#[test]
fn a_head_outside_of_the_table_is_passed_over() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    for head in [256, 257, 0x7fff, 0xffff] {
        for queue in [TX, RX, CONTROL] {
            card.queues[queue].offer(head);
            card.kick(queue);
        }
        let good = card.queue_playback(0, &[1; 80]);
        card.kick(TX);
        card.completion(TX).expect_played(good);
    }
    card.close(0);
    card.expect_service();
}

#[test]
fn an_available_index_that_jumps_breaks_its_own_queue_only() {
    for broken in [TX, RX, CONTROL] {
        let device = Device::null();
        let mut card = Card::attach(&device);
        for stream in [0, 1] {
            card.prepare(stream, &SMALL);
            card.must(START, stream);
        }
        for jump in [257, 0x8000, 0xffff] {
            let ring = &mut card.queues[broken];
            let index = ring.avail_index.wrapping_add(jump);
            card.memory.store16(ring.avail + 2, index);
            ring.kick_anyway();
            if broken != TX {
                let head = card.queue_playback(0, &[1; 80]);
                card.kick(TX);
                card.completion(TX).expect_played(head);
            }
            if broken != RX {
                let head = card.queue_capture(1, 80);
                card.kick(RX);
                card.completion(RX).expect_captured(head, 80);
            }
            if broken != CONTROL {
                assert_eq!(card.pcm_infos(2).len(), 2);
            }
        }
        card.reset();
        card.expect_service();
    }
}

#[test]
fn a_message_that_is_offered_twice_does_no_harm() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    let head = card.queue_playback(0, &[1; 80]);
    for _ in 0..200 {
        card.queues[TX].offer(head);
    }
    card.kick(TX);
    card.must(START, 0);
    assert_eq!(card.pcm_infos(2).len(), 2);
    card.close(0);
    card.reset();
    card.expect_service();
}

#[test]
fn indices_go_round() {
    // Messages of an idle stream come back at once, so that many go by.
    const BATCH: u16 = 128;
    for features in [0, EVENT_IDX] {
        let device = Device::null();
        let mut card = Card::attach_with(&device, [256; 4], features);
        let header = Buffer::readable(card.bytes(&words(&[0])), 4);
        let status = Buffer::writable(card.status_room(), STATUS_BYTES);
        for _ in 0..(u32::from(u16::MAX) + 2000) / u32::from(BATCH) {
            let ring = &mut card.queues[TX];
            let heads: Vec<_> = (0..BATCH).map(|_| ring.add(&[header, status])).collect();
            ring.kick();
            for head in heads {
                let used = ring.wait_used();
                assert_eq!((used.head, used.length), (head, STATUS_BYTES));
            }
        }
        card.expect_service();
    }
}

#[test]
fn the_event_queue_takes_rooms_that_nobody_kicked_for_and_keeps_them() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for _ in 0..64 {
        let room = Buffer::writable(card.bytes(&[0; 8]), 8);
        card.queues[EVENT].add(&[room]);
    }
    card.expect_service();
    card.kick(EVENT);
    card.expect_service();
    assert!(card.queues[EVENT].take_used().is_none());
}
