// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The life of a stream (virtio 1.3, 5.14.6.6.1), in every order in which a driver could ask.

use crate::card::{Card, RX, TX};
use crate::device::Device;
use crate::raw_frontend::{PROTOCOL_FEATURES, RESET_DEVICE, SET_PROTOCOL_FEATURES};
use crate::sound::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Set,
    Prepared,
    Running,
    Stopped,
    Released,
}

/// The specification's diagram. Linux goes beyond it: after a stop without pending messages it
/// sends no RELEASE, and it sends RELEASE from its own PREPARE; those edges are granted as well.
fn after(state: State, code: u32) -> Option<State> {
    use State::{Idle, Prepared, Released, Running, Set, Stopped};
    match (code, state) {
        (SET_PARAMS, Idle | Set | Prepared | Released | Stopped) => Some(Set),
        (PREPARE, Set | Prepared | Released | Stopped) => Some(Prepared),
        (START, Prepared | Stopped) => Some(Running),
        (STOP, Running) => Some(Stopped),
        (RELEASE, Prepared | Stopped | Released | Set) => Some(Released),
        _ => None,
    }
}

const CODES: [u32; 5] = [SET_PARAMS, PREPARE, START, STOP, RELEASE];

#[test]
fn requests_in_every_order_follow_the_state_machine() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for number in 0..5usize.pow(4) {
        card.reset();
        let stream = u32::from(number % 2 == 1);
        let mut state = State::Idle;
        for place in 0..4 {
            let code = CODES[number / 5usize.pow(place) % 5];
            let status = match code {
                SET_PARAMS => card.set_params(stream, &SMALL),
                _ => card.ask(code, stream),
            };
            let next = after(state, code);
            let expected = if next.is_some() { OK } else { BAD_MSG };
            assert_eq!(status, expected, "{code:#x} in {state:?}, order {number}");
            state = next.unwrap_or(state);
        }
    }
    card.reset();
    card.expect_service();
}

#[test]
fn a_whole_life_and_another_one() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for _ in 0..3 {
        card.expect_service();
    }
    // As Linux closes and opens again: no SET_PARAMS after an underrun.
    card.must(PREPARE, 0);
    card.must(START, 0);
    card.must(STOP, 0);
    card.must(START, 0);
    card.close(0);
}

#[test]
fn messages_before_start_wait_for_it() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    let heads = [0, 1, 2].map(|_| card.queue_playback(0, &[1; 80]));
    card.kick(TX);
    // Whatever the device does with a message, it has done by the time it answers this.
    card.pcm_infos(2);
    assert!(card.completed(TX).is_none());
    card.must(START, 0);
    for head in heads {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
}

#[test]
fn messages_after_stop_wait_for_start() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    card.must(STOP, 0);
    let head = card.queue_playback(0, &[1; 80]);
    card.kick(TX);
    card.pcm_infos(2);
    assert!(card.completed(TX).is_none());
    card.must(START, 0);
    card.completion(TX).expect_played(head);
    card.close(0);
}

#[test]
fn release_gives_pending_messages_back_before_it_answers() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for started in [false, true] {
        card.prepare(0, &SMALL);
        card.prepare(1, &SMALL);
        // Half a minute of sound.
        let long = vec![1; 1 << 18];
        let tx = [0, 1].map(|_| card.queue_playback(0, &long));
        let rx = [0, 1].map(|_| card.queue_capture(1, 1 << 18));
        card.kick(TX);
        card.kick(RX);
        for stream in [0, 1] {
            if started {
                card.must(START, stream);
                card.must(STOP, stream);
            }
            card.must(RELEASE, stream);
        }
        for head in tx {
            let completion = card.completed(TX).expect("still pending after RELEASE");
            assert_eq!((completion.head, completion.length), (head, 8));
        }
        for head in rx {
            let completion = card.completed(RX).expect("still pending after RELEASE");
            assert_eq!(completion.head, head);
            // Only a whole period counts, and there was none.
            assert_eq!(completion.length, 8);
        }
    }
    card.expect_service();
}

#[test]
fn messages_of_a_stream_that_is_not_prepared_come_back_at_once() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let bounced = |card: &mut Card, state: &str| {
        let head = card.queue_playback(0, &[1; 80]);
        card.kick(TX);
        let completion = card.completion(TX);
        let found = (completion.head, completion.length);
        assert_eq!(found, (head, 8), "{state}");
        assert_ne!(completion.status, OK, "{state}");
    };
    bounced(&mut card, "idle");
    assert_eq!(card.set_params(0, &SMALL), OK);
    bounced(&mut card, "parameters set");
    card.must(PREPARE, 0);
    card.must(RELEASE, 0);
    bounced(&mut card, "released");
    card.expect_service();
}

#[test]
fn prepare_starts_over_without_the_messages_that_were_pending() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    let old = card.queue_playback(0, &vec![1; 1 << 18]);
    card.kick(TX);
    card.must(PREPARE, 0);
    let completion = card.completed(TX).expect("still pending after PREPARE");
    assert_eq!(completion.head, old);
    let head = card.queue_playback(0, &[1; 80]);
    card.kick(TX);
    card.must(START, 0);
    card.completion(TX).expect_played(head);
    card.close(0);
}

#[test]
fn a_reset_brings_every_stream_back_to_its_first_state() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    card.prepare(1, &SMALL);
    card.must(START, 0);
    card.queue_playback(0, &[1; 80 * 1000]);
    card.kick(TX);
    card.reset();
    for stream in [0, 1] {
        for code in [PREPARE, START, STOP, RELEASE] {
            assert_eq!(card.ask(code, stream), BAD_MSG, "{code:#x}");
        }
    }
    card.expect_service();
}

#[test]
fn rings_that_a_reset_of_the_whole_device_took_away_are_set_up_like_new_ones() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    let frontend = card.frontend.as_ref().unwrap();
    let mut raw = frontend.raw();
    let features = PROTOCOL_FEATURES.to_le_bytes();
    assert!(raw.accepts(SET_PROTOCOL_FEATURES, &features, &[]));
    assert!(raw.accepts(RESET_DEVICE, &[], &[]));
    card.forget();
    let frontend = card.frontend.as_mut().unwrap();
    // The eventfds for interrupts come before those for kicks.
    frontend.start_again(&card.memory, &card.queues, &[0; 4], card.features);
    assert_eq!(card.ask(START, 0), BAD_MSG);
    card.expect_service();
}
