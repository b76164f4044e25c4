// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Both ends of a stream and a graph that is played by the test: every frame is heard once, whenever
//! the stream is stopped, the graph stands or its cycle changes.

use nix::sys::eventfd::{EfdFlags, EventFd};
use rtrb::RingBuffer;

use super::*;
use crate::audio::pipewire::feed::{Capture, Playback};
use crate::audio::pipewire::meter::Cycle;
use crate::graph_node::Latency;
use crate::pcm_format;
use crate::wire::Direction;

const RATE: u32 = 48_000;
const MILLISECOND: Nanos = 1_000_000;

fn params(period: u32, periods: u32) -> Params {
    Params {
        format: pcm_format::S16,
        rate: RATE,
        channels: 1,
        period_bytes: period * 2,
        buffer_bytes: period * periods * 2,
        features: 0,
    }
}

/// A graph, the feed that it calls, and the line at the other end.
struct Bench<F> {
    meter: Arc<Meter>,
    bell: Arc<EventFd>,
    feed: F,
    line: Line,
    buffer: u64,
    now: Nanos,
}

impl<F> Bench<F> {
    fn new(
        direction: Direction,
        (period, periods): (u32, u32),
        make: impl FnOnce(Arc<Meter>, usize) -> (F, Ring),
    ) -> Self {
        let params = params(period, periods);
        let latency = Latency {
            frames: period,
            rate: RATE,
        };
        let pace = Pace::new(direction, &params, latency);
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap());
        let meter = Arc::new(Meter::new(Arc::clone(&bell)));
        let (feed, ring) = make(Arc::clone(&meter), pace.capacity() as usize * 2);
        let line = Line::new(Arc::clone(&meter), ring, pace, &params);
        Self {
            meter,
            bell,
            feed,
            line,
            buffer: u64::from(period * periods),
            now: MILLISECOND,
        }
    }

    fn cycle(&mut self, frames: u64) -> Cycle {
        self.now += time(frames, RATE.into());
        Cycle {
            frames,
            at: self.now,
            delay: 0,
        }
    }
}

fn playback() -> Bench<Playback> {
    playback_of(480, 8)
}

fn playback_of(period: u32, periods: u32) -> Bench<Playback> {
    Bench::new(Direction::Playback, (period, periods), |meter, bytes| {
        let (full, empty) = RingBuffer::new(bytes);
        let feed = Playback::new(meter, empty, pcm_format::S16, 2);
        (feed, Ring::Playback(full))
    })
}

impl Bench<Playback> {
    /// The graph comes: what it takes away.
    fn take(&mut self, frames: u64) -> Vec<u16> {
        let mut buffer = vec![0; frames as usize * 2];
        let cycle = self.cycle(frames);
        assert_eq!(self.feed.fill(&mut buffer, &cycle), buffer.len());
        let samples = buffer.chunks(2);
        samples
            .map(|at| u16::from_le_bytes([at[0], at[1]]))
            .collect()
    }

    /// The audio thread comes: frames of a sound whose frame N is N + 1, of which the driver has as
    /// many as its buffer holds.
    fn fill(&mut self) -> u64 {
        let progress = self.line.progress(self.now);
        let pending = (progress.position + self.buffer).saturating_sub(self.line.cursor());
        let due = progress.ready.min(pending);
        let mut next = self.line.cursor() as u16 + 1;
        if due > 0 {
            let moved = self.line.write(due, &mut |room| {
                for sample in room.chunks_mut(2) {
                    sample.copy_from_slice(&next.to_le_bytes());
                    next += 1;
                }
            });
            assert_eq!(moved, due);
        }
        if progress.ready > due {
            self.line.starve(self.now);
        }
        progress.position
    }
}

#[test]
fn every_frame_is_heard_once_over_stops_and_cycles_of_any_length() {
    let mut bench = playback();
    bench.line.start(bench.now);
    assert!(bench.take(480).iter().all(|&sample| sample == 0));
    let (mut heard, mut halted) = (Vec::new(), 0);
    for turn in 0..200u64 {
        bench.fill();
        let frames = [64, 480, 333, 256][turn as usize % 4];
        let sound = bench.take(frames);
        assert!(sound.iter().all(|&sample| sample != 0), "turn {turn}");
        heard.extend(sound);
        if turn % 7 == 3 {
            let position = bench.line.halt();
            assert_eq!(position, heard.len() as u64);
            assert_eq!(bench.line.cursor(), position, "what is unheard comes again");
            for _ in 0..turn % 3 {
                assert!(bench.take(480).iter().all(|&sample| sample == 0));
            }
            bench.line.start(bench.now);
            halted += 1;
        }
    }
    let expected: Vec<u16> = (1..=heard.len() as u16).collect();
    assert_eq!(heard, expected);
    assert!(halted > 20 && heard.len() > 50_000);
    assert_eq!(bench.line.starve(bench.now), 0, "nothing was missing");
}

fn sound_of(cycle: &[u16]) -> Vec<u16> {
    let sound = cycle.iter().copied().filter(|&sample| sample != 0);
    sound.collect()
}

#[test]
fn a_sound_that_ends_ahead_of_the_graph_is_heard() {
    let mut bench = playback_of(480, 2);
    bench.take(1024);
    bench.line.start(bench.now);
    bench.line.progress(bench.now);
    assert_eq!(bench.line.write(480, &mut |room| room.fill(1)), 480);
    // The driver has all of it back, and stops.
    assert_eq!(bench.line.progress(bench.now).position, 480);
    assert_eq!(bench.line.halt(), 480);
    // Another use of the card does not take it away.
    bench.line.halt();
    bench.line.place(0);
    assert_eq!(sound_of(&bench.take(1024)).len(), 480);
    assert_eq!(bench.meter.take_missing(), 0, "a sound's end is no hole");
    assert_eq!(sound_of(&bench.take(1024)).len(), 0);
}

#[test]
fn a_short_buffer_loses_and_repeats_nothing_at_stops() {
    for (period, periods) in [(240, 4), (480, 2)] {
        let mut bench = playback_of(period, periods);
        bench.take(1024);
        bench.line.start(bench.now);
        let (mut heard, mut ahead) = (Vec::new(), 0);
        for turn in 0..60 {
            for step in 0..8 {
                bench.now += 3 * MILLISECOND;
                bench.fill();
                // Twice before the graph comes again.
                if turn % 5 == 3 && [4, 7].contains(&step) {
                    let position = bench.line.halt();
                    assert_eq!(bench.line.cursor(), position);
                    ahead += position - heard.len() as u64;
                    bench.line.start(bench.now);
                }
            }
            heard.extend(sound_of(&bench.take(1024)));
        }
        let position = bench.line.halt();
        heard.extend(sound_of(&bench.take(1024)));
        assert_eq!(heard.len() as u64, position);
        let expected: Vec<u16> = (1..=heard.len() as u16).collect();
        assert_eq!(heard, expected, "{period} x {periods}");
        assert!(heard.len() > 30_000 && ahead > 1000);
    }
}

#[test]
fn a_short_buffer_is_looked_at_a_few_times_in_a_cycle() {
    for (period, periods) in [(240, 4), (480, 2)] {
        let mut bench = playback_of(period, periods);
        bench.take(1024);
        bench.line.start(bench.now);
        let mut heard = Vec::new();
        for _ in 0..60 {
            let start = bench.now;
            let end = start + time(1024, RATE.into());
            let mut looks = 0;
            while bench.now < end {
                let position = bench.fill();
                let next = (position / u64::from(period) + 1) * u64::from(period);
                bench.line.expect(next);
                bench.now = bench.line.when(next, bench.now);
                looks += 1;
            }
            // One for each period's end, one for what is found then, and one before the next cycle.
            assert!(looks < 2 * 1024 / period + 4, "{looks} looks");
            bench.now = start;
            heard.extend(sound_of(&bench.take(1024)));
        }
        let expected: Vec<u16> = (1..=heard.len() as u16).collect();
        assert_eq!(heard, expected, "{period} x {periods}");
        assert!(heard.len() > 50 * 1024 && bench.meter.take_missing() == 0);
    }
}

#[test]
fn what_was_left_to_the_graph_comes_before_what_is_started_anew() {
    let mut bench = playback_of(480, 2);
    bench.take(1024);
    bench.line.start(bench.now);
    bench.fill();
    let position = bench.fill();
    assert_eq!(bench.line.halt(), position);
    bench.line.start(bench.now);
    // The new cycle is so short that one frame is enough to go.
    let mut heard = Vec::new();
    for _ in 0..40 {
        heard.extend(sound_of(&bench.take(64)));
        bench.fill();
    }
    let expected: Vec<u16> = (1..=heard.len() as u16).collect();
    assert_eq!(heard, expected);
    assert!(heard.len() as u64 > position && position > 64);
}

#[test]
fn what_is_ahead_of_a_graph_that_is_left_is_not_heard_when_it_comes_back() {
    let mut bench = playback_of(480, 2);
    bench.take(1024);
    bench.line.start(bench.now);
    bench.fill();
    let position = bench.fill();
    assert_eq!(bench.line.halt(), position);
    assert!(position > 0);
    bench.line.start(bench.now);
    assert_eq!(bench.line.abandon(), position);
    assert!(sound_of(&bench.take(1024)).is_empty());
    bench.line.place(position + 5000);
    bench.line.start(bench.now);
    assert_eq!(first_sound(&mut bench), Some(position as u16 + 5001));
}

/// Sound comes within some cycles of the graph; returns its first frame.
fn first_sound(bench: &mut Bench<Playback>) -> Option<u16> {
    for _ in 0..20 {
        bench.fill();
        if let Some(&sample) = bench.take(480).iter().find(|&&sample| sample != 0) {
            return Some(sample);
        }
    }
    None
}

#[test]
fn a_stream_that_was_filled_before_it_started_goes() {
    let mut bench = playback();
    bench.take(480);
    // Its node is still there from the time before: it is filled as START finds it.
    bench.fill();
    bench.line.start(bench.now);
    assert_eq!(first_sound(&mut bench), Some(1));
    bench.take(480);
    assert_eq!(bench.line.halt(), 960);
    bench.fill();
    bench.line.start(bench.now);
    assert_eq!(first_sound(&mut bench), Some(961));
}

#[test]
fn a_ring_full_of_what_is_void_does_not_keep_a_stream_from_going() {
    let mut bench = playback();
    bench.take(480);
    // As often as there is room, all before the graph comes again.
    loop {
        let ready = bench.line.progress(bench.now).ready;
        let moved = bench.line.write(ready, &mut |room| room.fill(1));
        bench.line.start(bench.now);
        assert_eq!(bench.line.halt(), 0);
        if moved == 0 {
            break;
        }
    }
    bench.line.start(bench.now);
    bench.line.progress(bench.now);
    // There is no room to be filled until then.
    bench.line.expect(480);
    assert!(bench.line.when(480, bench.now) > bench.now + MILLISECOND / 2);
    let _ = bench.bell.read();
    assert!(bench.take(480).iter().all(|&sample| sample == 0));
    assert!(bench.bell.read().is_ok());
    assert_eq!(first_sound(&mut bench), Some(1));
}

#[test]
fn a_stream_that_stands_is_told_of_or_found_out_and_then_nothing_moves() {
    let mut bench = playback();
    bench.meter.set_status(Status::Streaming);
    bench.line.start(bench.now);
    bench.take(480);
    bench.fill();
    assert_eq!(bench.take(480)[479], 480);
    let position = bench.fill();
    assert!(!bench.line.stands(bench.now));
    // The server says so: at once. The driver is not asked for more, and no timer runs.
    bench.meter.set_status(Status::Paused);
    assert!(bench.line.stands(bench.now));
    bench.now += 5000 * MILLISECOND;
    assert_eq!(bench.fill(), position);
    bench.line.expect(position + 480);
    assert_eq!(
        bench.line.when(position + 480, bench.now),
        bench.now + STANDING
    );
    assert_eq!(bench.line.upkeep(), None);
    // It goes on where it stopped.
    bench.meter.set_status(Status::Streaming);
    assert_eq!(bench.take(480)[0], 481);
    assert!(!bench.line.stands(bench.now));
    // Nobody says anything, and the graph does not come.
    let due = bench.line.upkeep().unwrap();
    assert!(!bench.line.stands(due - 1) && bench.line.stands(due));
}

/// How many cycles of 480 frames are silent from now on, at most 100; then one has sound.
fn silent_cycles(bench: &mut Bench<Playback>, next: u16) -> usize {
    for cycle in 0..100 {
        let position = bench.fill();
        let sound = bench.take(480);
        if sound[0] != 0 {
            assert_eq!(sound[0], next);
            assert!(!bench.line.stands(bench.now));
            return cycle;
        }
        assert!(bench.line.stands(bench.now) && position < u64::from(next) + 480);
    }
    100
}

#[test]
fn a_stream_that_holds_goes_on_when_the_graph_has_settled() {
    let mut bench = playback();
    bench.line = bench.line.holding(true);
    bench.meter.set_status(Status::Streaming);
    bench.line.start(bench.now);
    bench.take(480);
    bench.fill();
    assert!(!bench.line.stands(bench.now));
    assert_eq!(
        bench.take(480)[479],
        480,
        "a stream that starts does not wait"
    );
    for told in [true, false] {
        let next = bench.line.halt() as u16 + 1;
        bench.line.start(bench.now);
        assert_eq!(
            silent_cycles(&mut bench, next),
            0,
            "a stream that starts anew"
        );
        if told {
            bench.meter.set_status(Status::Paused);
            assert!(bench.line.stands(bench.now));
            assert_eq!(bench.take(480), [0; 480], "a cycle that was on its way");
            assert!(bench.line.stands(bench.now));
        }
        bench.now += 5000 * MILLISECOND;
        bench.meter.set_status(Status::Streaming);
        assert!(bench.line.stands(bench.now));
        // The cycle that ends the wait is 300 ms after the first: 10 ms each.
        assert_eq!(silent_cycles(&mut bench, next + 480), 30);
        assert_eq!(bench.line.starve(bench.now), 0, "nothing was missing");
    }
    // Whoever starts anew while the graph settles does not wait for that.
    bench.now += 5000 * MILLISECOND;
    assert!(bench.line.stands(bench.now));
    let next = bench.line.halt() as u16 + 1;
    bench.line.start(bench.now);
    bench.take(480);
    assert_eq!(silent_cycles(&mut bench, next), 0);
}

#[test]
fn a_stream_that_did_without_the_graph_is_told_when_it_is_back() {
    let mut bench = playback();
    bench.meter.set_status(Status::Streaming);
    bench.line.start(bench.now);
    bench.take(480);
    bench.fill();
    bench.take(480);
    bench.meter.set_status(Status::Paused);
    let position = bench.line.halt();
    bench.line.listen(bench.now);
    assert!(!bench.line.is_back(bench.now));
    bench.meter.set_status(Status::Streaming);
    assert!(!bench.line.is_back(bench.now), "no cycle has come yet");
    assert!(bench.take(480).iter().all(|&sample| sample == 0));
    assert!(bench.line.is_back(bench.now));
    // Meanwhile 5000 frames have passed.
    bench.line.place(position + 5000);
    bench.line.start(bench.now);
    bench.fill();
    let next = (position + 5000) as u16 + 1;
    assert_eq!(bench.take(480)[0], next);
}

#[test]
fn a_stream_that_has_run_dry_is_not_woken_by_the_graph() {
    let mut bench = playback();
    bench.line.start(bench.now);
    bench.take(480);
    bench.line.progress(bench.now);
    for _ in 0..2 {
        assert_eq!(bench.line.write(480, &mut |room| room.fill(1)), 480);
        bench.line.expect(bench.line.cursor());
        let _ = bench.bell.read();
        bench.take(480);
        assert!(bench.bell.read().is_ok());
        bench.line.progress(bench.now);
        bench.line.starve(bench.now);
        for _ in 0..3 {
            bench.take(480);
            assert!(bench.bell.read().is_err());
        }
        // The driver's next message wakes it again.
        bench.line.progress(bench.now);
    }
}

#[test]
fn missing_frames_are_counted_and_the_position_waits_for_sound() {
    let mut bench = playback();
    bench.line.start(bench.now);
    bench.take(480);
    bench.fill();
    bench.take(480);
    let held = bench.line.cursor() - 480;
    let sound = bench.take(2000);
    assert_eq!(
        sound.iter().filter(|&&sample| sample != 0).count() as u64,
        held
    );
    let progress = bench.line.progress(bench.now);
    assert_eq!(progress.position, bench.line.cursor());
    assert_eq!(bench.line.starve(bench.now), 2000 - held);
    assert_eq!(bench.line.starve(bench.now), 0);
}

#[test]
fn frames_that_are_missing_though_the_driver_has_sound_are_counted_once() {
    let mut bench = playback();
    bench.line.start(bench.now);
    bench.take(480);
    bench.fill();
    let held = bench.line.cursor();
    // The cycle has become longer than what was kept for it; the driver has enough for the next.
    bench.take(2048);
    let cursor = bench.line.cursor();
    bench.fill();
    assert_eq!(bench.line.cursor() - cursor, 2048 + 480);
    assert_eq!(bench.line.lost(), 2048 - held);
    assert_eq!(bench.line.lost(), 0);
    assert_eq!(bench.line.starve(bench.now), 0);
    // What is missed on the way to a stop is no hole in what comes after it.
    bench.take(8192);
    bench.line.halt();
    assert_eq!(bench.line.lost(), 0);
    bench.line.start(bench.now);
    bench.fill();
    assert_eq!(bench.line.lost(), 0);
}

#[test]
fn captured_frames_of_a_pause_are_not_heard() {
    let mut bench = Bench::new(Direction::Capture, (480, 8), |meter, bytes| {
        let (full, empty) = RingBuffer::new(bytes);
        (Capture::new(meter, full, 2), Ring::Capture(empty))
    });
    let mut next = 0u16;
    let mut bring = |bench: &mut Bench<Capture>, frames: u64| {
        let samples = (0..frames).map(|at| next.wrapping_add(at as u16).to_le_bytes());
        let data: Vec<u8> = samples.flatten().collect();
        next += frames as u16;
        let cycle = bench.cycle(frames);
        bench.feed.take(&data, 0, data.len(), &cycle);
    };
    let read = |bench: &mut Bench<Capture>| {
        let ready = bench.line.progress(bench.now).ready;
        let mut samples = Vec::new();
        let moved = bench.line.read(ready, &mut |part| {
            samples.extend(part.chunks(2).map(|at| u16::from_le_bytes([at[0], at[1]])));
        });
        assert_eq!(moved, ready);
        samples
    };
    bring(&mut bench, 480);
    bench.line.start(bench.now);
    bring(&mut bench, 480);
    assert_eq!(read(&mut bench), (480..960).collect::<Vec<u16>>());
    bring(&mut bench, 480);
    // What was captured and not read goes with the pause, and what came in it.
    assert_eq!(bench.line.halt(), 480);
    bring(&mut bench, 480);
    bench.line.start(bench.now);
    assert!(read(&mut bench).is_empty());
    bring(&mut bench, 100);
    assert_eq!(read(&mut bench), (1920..2020).collect::<Vec<u16>>());
    assert_eq!(bench.line.cursor(), 580);
    assert_eq!(bench.line.starve(bench.now), 0);
}
