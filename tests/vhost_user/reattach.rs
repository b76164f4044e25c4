// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A frontend that dies is not heard: the device keeps serving its rings, and the next frontend
//! takes them over where they are.

use std::collections::VecDeque;
use std::time::Duration;

use crate::card::{Card, RX, TX};
use crate::device::Device;
use crate::driver::Virtqueue;
use crate::frontend::{EVENT_IDX, Frontend};
use crate::sound::*;
use crate::wav;

const PERIODS: usize = 60;

/// Plays PERIODS periods with four in flight and calls `between` before each wait.
fn play_through(card: &mut Card, samples: &[u8], mut between: impl FnMut(&mut Card, usize)) {
    card.prepare(0, &SMALL);
    let mut periods = samples.chunks(80);
    let mut heads: VecDeque<_> = periods
        .by_ref()
        .take(4)
        .map(|period| card.queue_playback(0, period))
        .collect();
    card.kick(TX);
    card.must(START, 0);
    let mut count = 0;
    while let Some(head) = heads.pop_front() {
        between(card, count);
        count += 1;
        card.completion(TX).expect_played(head);
        if let Some(period) = periods.next() {
            heads.push_back(card.queue_playback(0, period));
            card.kick(TX);
        }
    }
    card.close(0);
}

#[test]
fn a_stream_plays_on_without_any_frontend() {
    for features in [0, EVENT_IDX] {
        let device = Device::player();
        let mut card = Card::attach_with(&device, [64; 4], features);
        let samples = noise(80 * PERIODS, 1);
        play_through(&mut card, &samples, |card, count| {
            if count == 10 {
                card.detach();
            }
        });
        assert!(wav::read(&device.path("out.wav")).1 == samples);
    }
}

#[test]
fn frontends_come_and_go_while_a_stream_plays_and_nothing_is_lost_or_repeated() {
    for features in [0, EVENT_IDX] {
        let device = Device::player();
        let mut card = Card::attach_with(&device, [64; 4], features);
        let samples = noise(80 * PERIODS, 2);
        play_through(&mut card, &samples, |card, count| {
            if count % 7 == 3 {
                card.detach();
                card.reattach(device.connect());
            }
        });
        assert!(wav::read(&device.path("out.wav")).1 == samples);
        // The control queue goes on as well.
        assert_eq!(card.pcm_infos(1).len(), 1);
    }
}

#[test]
fn messages_in_flight_are_kept_through_a_late_frontend() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    let samples = noise(80 * PERIODS, 3);
    card.prepare(0, &SMALL);
    let heads = card.queue_periods(0, &samples, 80);
    card.kick(TX);
    card.must(START, 0);
    card.completion(TX).expect_played(heads[0]);
    card.detach();
    // They come back although nobody is there.
    for &head in &heads[1..20] {
        card.completion(TX).expect_played(head);
    }
    card.reattach(device.connect());
    for &head in &heads[20..] {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
    assert!(wav::read(&device.path("out.wav")).1 == samples);
}

#[test]
fn room_in_flight_is_kept_while_a_stream_captures() {
    let folder = tempfile::tempdir().unwrap();
    let samples = noise(80 * PERIODS, 4);
    wav::write(
        &folder.path().join("in.wav"),
        wav::spec(8000, 1, 8),
        &samples,
    );
    let device = Device::start_in(folder, &["--host", "file", "--capture-file", "in.wav"]);
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    let heads: Vec<_> = (0..PERIODS).map(|_| card.queue_capture(0, 80)).collect();
    card.kick(RX);
    card.must(START, 0);
    let mut heard = Vec::new();
    for (count, head) in heads.into_iter().enumerate() {
        if count % 11 == 5 {
            card.detach();
            card.reattach(device.connect());
        }
        let completion = card.completion(RX);
        completion.expect_captured(head, 80);
        heard.extend(completion.samples);
    }
    card.close(0);
    assert!(heard == samples);
}

#[test]
fn messages_of_a_prepared_stream_are_kept() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    let samples = noise(80 * 4, 5);
    card.prepare(0, &SMALL);
    let heads = card.queue_periods(0, &samples, 80);
    card.kick(TX);
    card.pcm_infos(1);
    card.detach();
    card.reattach(device.connect());
    card.must(START, 0);
    for head in heads {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
    assert!(wav::read(&device.path("out.wav")).1 == samples);
}

#[test]
fn messages_added_while_nobody_is_there_are_found() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    card.detach();
    // The old eventfd is gone with the old frontend: this kick reaches nobody.
    card.queues[TX].renew_eventfds();
    let head = card.queue_playback(0, &[5; 80]);
    card.kick(TX);
    card.reattach(device.connect());
    card.completion(TX).expect_played(head);
    card.close(0);
}

#[test]
fn a_frontend_that_breaks_off_its_takeover_disturbs_nobody() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    let samples = noise(80 * PERIODS, 6);
    let mut limit = 0;
    play_through(&mut card, &samples, |card, count| {
        if count % 2 == 1 {
            card.detach();
            let mapping = card.memory.mapped_again();
            let used = card.queues.iter().map(|queue| queue.used_index_in_memory());
            let bases: Vec<_> = used.collect();
            let mut frontend = Frontend::new(device.connect());
            frontend.start(&mapping, &card.queues, &bases, card.features, limit);
            limit += 1;
            drop(frontend);
            card.reattach(device.connect());
        }
    });
    assert!(wav::read(&device.path("out.wav")).1 == samples);
}

#[test]
fn a_frontend_that_dies_in_its_takeover_leaves_the_rings_in_service() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    card.detach();
    for limit in 0.. {
        let mapping = card.memory.mapped_again();
        let used = card.queues.iter().map(Virtqueue::used_index_in_memory);
        let bases: Vec<_> = used.collect();
        let mut frontend = Frontend::new(device.connect());
        let said = frontend.start(&mapping, &card.queues, &bases, card.features, limit);
        drop(frontend);
        let head = card.queue_playback(0, &[1; 80]);
        card.queues[TX].kick_anyway();
        card.completion(TX).expect_played(head);
        if said < limit {
            break;
        }
    }
    card.close(0);
}

#[test]
fn another_memory_file_is_another_driver() {
    let device = Device::null();
    let mut old = Card::attach(&device);
    old.prepare(0, &SMALL);
    old.queue_playback(0, &vec![1; 1 << 18]);
    old.kick(TX);
    old.must(START, 0);
    old.detach();
    let before = old.queues[TX].used_index_in_memory();
    let mut new = Card::attach(&device);
    for stream in [0, 1] {
        for code in [PREPARE, START, STOP, RELEASE] {
            assert_eq!(new.ask(code, stream), BAD_MSG, "{code:#x}");
        }
    }
    new.expect_service();
    assert_eq!(old.queues[TX].used_index_in_memory(), before);
}

#[test]
fn a_driver_that_was_reset_while_nobody_was_there_starts_fresh() {
    for queued in [0, 4] {
        let device = Device::null();
        let mut card = Card::attach(&device);
        card.prepare(0, &SMALL);
        for _ in 0..queued {
            card.queue_playback(0, &[1; 80]);
        }
        card.kick(TX);
        card.pcm_infos(2);
        card.detach();
        // The same memory file, the same rings, but zeroed.
        card.forget();
        card.reattach(device.connect());
        assert_eq!(card.ask(START, 0), BAD_MSG);
        card.expect_service();
    }
}

#[test]
fn a_new_device_process_serves_the_rings_where_they_are() {
    let mut old = Device::null();
    let mut card = Card::attach(&old);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    let head = card.queue_playback(0, &[1; 8]);
    card.kick(TX);
    card.completion(TX).expect_played(head);
    let lost = card.queue_playback(0, &vec![1; 1 << 16]);
    card.kick(TX);
    old.end_by(nix::sys::signal::Signal::SIGKILL);
    let new = Device::null();
    card.detach();
    card.reattach(new.connect());
    // It knows nothing of the stream, and says so; nothing stays with it.
    assert_eq!(card.completion(TX).head, lost);
    assert_eq!(card.ask(STOP, 0), BAD_MSG);
    card.expect_service();
}

/// How the frontend deals with the area for what is in flight.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Keeps {
    Nothing,
    Area,
    /// It names the area again after the pause.
    AreaTwice,
}

#[test]
fn a_stream_that_was_suspended_with_its_rings_plays_on_after_them() {
    for keeps in [Keeps::Nothing, Keeps::Area, Keeps::AreaTwice] {
        let device = Device::player();
        let mut card = Card::unattached([256; 4], EVENT_IDX);
        let mut kept = None;
        match keeps {
            Keeps::Nothing => card.reattach(device.connect()),
            _ => card.reattach_keeping(device.connect(), &mut kept),
        }
        let samples = noise(80 * 20, 7);
        card.prepare(0, &SMALL);
        let heads = card.queue_periods(0, &samples, 80);
        card.kick(TX);
        card.must(START, 0);
        for &head in &heads[..5] {
            card.completion(TX).expect_played(head);
        }
        // A virtual machine is paused: GET_VRING_BASE, then the same rings from there.
        let mut frontend = card.frontend.take().unwrap();
        let bases = frontend.stop(card.queues.len());
        std::thread::sleep(Duration::from_millis(50));
        if let (Some(kept), Keeps::AreaTwice) = (&kept, keeps) {
            frontend.set_inflight(kept);
        }
        frontend.start_again(&card.memory, &card.queues, &bases, card.features);
        card.frontend = Some(frontend);
        for &head in &heads[5..] {
            card.completion(TX).expect_played(head);
        }
        card.close(0);
        let heard = wav::read(&device.path("out.wav")).1;
        // A message that was heard in part is heard again from its beginning, and none is left out.
        let fits = |from: usize| {
            let before = heard.len().checked_sub(samples.len() - from);
            before.is_some_and(|before| {
                (from..=from + 80).contains(&before)
                    && samples.starts_with(&heard[..before])
                    && heard[before..] == samples[from..]
            })
        };
        assert!((5..=20).any(|message| fits(80 * message)), "{keeps:?}");
        assert!(!device.log().contains("has died"), "{keeps:?}");
    }
}
