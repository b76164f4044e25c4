// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a running stream costs its driver: no kick, and an interrupt a message at most.

use crate::card::{Card, RX, TX};
use crate::device::Device;
use crate::frontend::EVENT_IDX;
use crate::sound::*;

/// Several seconds: no pause of this test lets the stream run dry.
const LONG: usize = 1 << 16;

#[test]
fn a_running_stream_that_holds_messages_wants_no_kick() {
    for features in [0, EVENT_IDX] {
        let device = Device::null();
        let mut card = Card::attach_with(&device, [256; 4], features);
        for stream in [0, 1] {
            card.prepare(stream, &SMALL);
        }
        let first = (card.queue_playback(0, &[1; 8]), card.queue_capture(1, 8));
        card.queue_playback(0, &vec![1; LONG]);
        card.queue_capture(1, LONG);
        card.kick(TX);
        card.kick(RX);
        for stream in [0, 1] {
            card.must(START, stream);
        }
        card.completion(TX).expect_played(first.0);
        card.completion(RX).expect_captured(first.1, 8);
        let before = [TX, RX].map(|queue| card.queues[queue].kicks);
        for _ in 0..8 {
            // The device has gone to sleep again by the time the second answer is there.
            card.pcm_infos(2);
            card.pcm_infos(2);
            card.queue_playback(0, &[1; 8]);
            card.queue_capture(1, 8);
            card.kick(TX);
            card.kick(RX);
        }
        let after = [TX, RX].map(|queue| card.queues[queue].kicks);
        assert_eq!(after, before);
        card.close(0);
        card.close(1);
    }
}

/// A buffer of a second: so long the device looks for a late driver by itself.
const PATIENT: Params = Params {
    buffer_bytes: 8000,
    period_bytes: 80,
    ..SMALL
};

#[test]
fn a_driver_that_is_late_is_found_without_a_kick() {
    for features in [0, EVENT_IDX] {
        let device = Device::null();
        let mut card = Card::attach_with(&device, [256; 4], features);
        for stream in [0, 1] {
            card.prepare(stream, &PATIENT);
            card.must(START, stream);
        }
        let before = [TX, RX].map(|queue| card.queues[queue].kicks);
        for _ in 0..10 {
            assert!(!card.queues[TX].listens() && !card.queues[RX].listens());
            let heads = (card.queue_playback(0, &[1; 80]), card.queue_capture(1, 80));
            card.kick(TX);
            card.kick(RX);
            card.completion(TX).expect_played(heads.0);
            card.completion(RX).expect_captured(heads.1, 80);
        }
        let after = [TX, RX].map(|queue| card.queues[queue].kicks);
        assert_eq!(after, before);
        card.close(0);
        card.close(1);
    }
}

#[test]
fn a_driver_that_stays_away_is_listened_for() {
    for features in [0, EVENT_IDX] {
        let device = Device::null();
        let mut card = Card::attach_with(&device, [256; 4], features);
        for stream in [0, 1] {
            card.prepare(stream, &SMALL);
            card.must(START, stream);
        }
        for queue in [TX, RX, TX, RX] {
            card.wait_until("the device listens", |card| card.queues[queue].listens());
            let before = card.queues[queue].kicks;
            if queue == TX {
                let head = card.queue_playback(0, &[1; 80]);
                card.kick(TX);
                card.completion(TX).expect_played(head);
            } else {
                let head = card.queue_capture(1, 80);
                card.kick(RX);
                card.completion(RX).expect_captured(head, 80);
            }
            assert_eq!(card.queues[queue].kicks, before + 1);
        }
        card.close(0);
        card.close(1);
    }
}

#[test]
fn a_driver_that_kicks_nevertheless_does_no_harm() {
    for features in [0, EVENT_IDX] {
        let device = Device::null();
        let mut card = Card::attach_with(&device, [256; 4], features);
        card.prepare(0, &SMALL);
        let heads: Vec<_> = (0..20).map(|_| card.queue_playback(0, &[1; 80])).collect();
        card.kick(TX);
        card.must(START, 0);
        for head in heads {
            card.queues[TX].kick_anyway();
            card.completion(TX).expect_played(head);
        }
        card.close(0);
    }
}

#[test]
fn there_is_at_most_one_interrupt_for_a_message() {
    for features in [0, EVENT_IDX] {
        let device = Device::null();
        let mut card = Card::attach_with(&device, [256; 4], features);
        card.prepare(0, &SMALL);
        let heads: Vec<_> = (0..40).map(|_| card.queue_playback(0, &[1; 40])).collect();
        card.kick(TX);
        card.must(START, 0);
        let before = card.queues[TX].calls;
        let count = heads.len() as u64;
        for head in heads {
            card.completion(TX).expect_played(head);
        }
        assert!(card.queues[TX].calls - before <= count);
        card.close(0);
    }
}

#[test]
fn a_stream_that_is_polled_is_served_without_any_kick() {
    for late in [false, true] {
        let device = Device::start(&["--host", "null", "--polling"]);
        let mut card = Card::attach(&device);
        for info in card.pcm_infos(2) {
            assert_eq!(info.features, MSG_POLLING | EVT_XRUNS);
        }
        let polled = Params {
            features: MSG_POLLING,
            ..SMALL
        };
        for stream in [0, 1] {
            card.prepare(stream, &polled);
        }
        let early = (card.queue_playback(0, &[1; 80]), card.queue_capture(1, 80));
        for stream in [0, 1] {
            card.must(START, stream);
        }
        card.completion(TX).expect_played(early.0);
        card.completion(RX).expect_captured(early.1, 80);
        for _ in 0..10 {
            if late {
                // Out of the device's patience, which is the time of the buffer.
                std::thread::sleep(std::time::Duration::from_millis(60));
            }
            let heads = (card.queue_playback(0, &[1; 80]), card.queue_capture(1, 80));
            card.completion(TX).expect_played(heads.0);
            card.completion(RX).expect_captured(heads.1, 80);
        }
        // Those with which every frontend of these tests begins.
        assert_eq!([TX, RX].map(|queue| card.queues[queue].kicks), [1, 1]);
        card.close(0);
        card.close(1);
    }
}

#[test]
fn a_feature_that_is_not_offered_cannot_be_selected() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    assert_eq!(card.pcm_infos(2)[0].features, EVT_XRUNS);
    for features in [MSG_POLLING, 1, 2, 8, 32, 1 << 31, u32::MAX] {
        let wrong = Params { features, ..SMALL };
        let answer = card.request(&wrong.request(0), 4);
        assert_eq!(answer.status, NOT_SUPP, "{features:#x}");
    }
    let right = Params {
        features: EVT_XRUNS,
        ..SMALL
    };
    card.prepare(0, &right);
}
