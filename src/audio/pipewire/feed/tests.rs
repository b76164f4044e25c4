// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The real-time callback without a server: what it makes of a cycle, for every format, and that it
//! allocates nothing.

use allocation_counter::AllocationInfo;
use nix::sys::eventfd::EventFd;
use rtrb::RingBuffer;

use super::*;
use crate::audio::pipewire::format::offer;
use crate::pcm_format::{self, FORMATS};
use crate::wire::Direction;

fn meter() -> Arc<Meter> {
    Arc::new(Meter::new(Arc::new(EventFd::new().unwrap())))
}

fn cycle(frames: u64) -> Cycle {
    Cycle {
        frames,
        at: 1,
        delay: 0,
    }
}

/// A stream that plays, and the other end of its ring.
struct Player {
    meter: Arc<Meter>,
    ring: Producer<u8>,
    feed: Playback,
    frame_bytes: usize,
}

impl Player {
    fn new(format: Format, channels: usize, capacity: usize) -> Self {
        let meter = meter();
        let frame_bytes = usize::from(format.bytes) * channels;
        let (ring, taken) = RingBuffer::new(capacity * frame_bytes);
        let feed = Playback::new(Arc::clone(&meter), taken, format, frame_bytes);
        Self {
            meter,
            ring,
            feed,
            frame_bytes,
        }
    }

    fn queue(&mut self, samples: &[u8]) {
        assert_eq!(samples.len() % self.frame_bytes, 0);
        self.ring.push_entire_slice(samples).unwrap();
    }

    /// A cycle into a buffer with room for more; returns what it holds then.
    fn cycle(&mut self, frames: usize, room: usize) -> (Vec<u8>, AllocationInfo) {
        let mut buffer = vec![0xaa; room * self.frame_bytes];
        let (feed, mut bytes) = (&mut self.feed, 0);
        let asked = cycle(frames as u64);
        let found = allocation_counter::measure(|| bytes = feed.fill(&mut buffer, &asked));
        assert!(buffer[bytes..].iter().all(|&byte| byte == 0xaa));
        buffer.truncate(bytes);
        (buffer, found)
    }
}

fn noise(bytes: usize, seed: u8) -> Vec<u8> {
    // No sample of any format is its silence: no byte is zero, and the pattern never repeats a byte.
    (0..bytes)
        .map(|at| (at as u8).wrapping_mul(37).wrapping_add(seed) | 1)
        .collect()
}

fn silence(format: Format, samples: usize) -> Vec<u8> {
    let mut silence = vec![1; samples * usize::from(format.bytes)];
    format.fill_silence(&mut silence);
    silence
}

#[test]
fn exactly_what_is_asked_for_is_filled_across_messages_and_around_the_ring() {
    let mut player = Player::new(pcm_format::S24_3, 2, 50);
    player.meter.go(0);
    let sound = noise(6 * 1000, 0);
    let (mut queued, mut heard) = (0, Vec::new());
    // Messages of 7 frames and cycles of 3 to 15: none ends where another does, and 50 is a
    // multiple of neither.
    for asked in (3..=15).cycle() {
        while queued < sound.len() && player.ring.slots() >= 42 {
            let end = (queued + 42).min(sound.len());
            player.queue(&sound[queued..end]);
            queued = end;
        }
        if heard.len() + asked * 6 > sound.len() {
            break;
        }
        let (buffer, found) = player.cycle(asked, 20);
        assert_eq!((found.count_total, found.count_current), (0, 0));
        assert_eq!(buffer.len(), asked * 6);
        heard.extend(buffer);
    }
    assert!(heard.len() > 900 * 6);
    assert_eq!(heard, sound[..heard.len()]);
    assert_eq!(player.meter.count(), heard.len() as u64 / 6);
    assert_eq!(player.meter.take_missing(), 0);
}

#[test]
fn only_missing_frames_are_silence_and_silence_is_that_of_the_format() {
    let offered = offer(Direction::Playback).formats;
    let formats = FORMATS.iter().filter(|format| offered & format.bit() != 0);
    let mut count = 0;
    for format in formats {
        for channels in [1, 2, 6, 8] {
            let mut player = Player::new(*format, channels, 64);
            player.meter.go(0);
            let sound = noise(10 * player.frame_bytes, format.wire);
            player.queue(&sound);
            let (buffer, found) = player.cycle(16, 32);
            assert_eq!((found.count_total, found.count_current), (0, 0));
            let expected = [sound, silence(*format, 6 * channels)].concat();
            assert_eq!(buffer, expected, "{format:?}, {channels} channels");
            assert_eq!(player.meter.take_missing(), 6);
            assert_eq!(player.meter.count(), 10);
        }
        count += 1;
    }
    assert_eq!(count, 14);
    assert_eq!(silence(pcm_format::U8, 2), [0x80, 0x80]);
    assert_eq!(silence(pcm_format::MU_LAW, 1), [0x7f]);
}

#[test]
fn a_buffer_that_says_nothing_is_filled_whole_and_one_that_is_short_as_far_as_it_goes() {
    let mut player = Player::new(pcm_format::S16, 2, 64);
    player.meter.go(0);
    player.queue(&noise(4 * 40, 3));
    assert_eq!(player.cycle(0, 12).0, noise(4 * 40, 3)[..48]);
    assert_eq!(player.cycle(20, 8).0, noise(4 * 40, 3)[48..80]);
    assert_eq!(player.meter.count(), 20);
    let mut odd = [0xaa; 4 * 5 + 3];
    assert_eq!(player.feed.fill(&mut odd, &cycle(0)), 20);
    assert_eq!(odd[20..], [0xaa; 3]);
    assert_eq!(player.feed.fill(&mut [], &cycle(9)), 0);
}

#[test]
fn a_halted_stream_plays_nothing_and_goes_on_with_what_comes_after_the_void() {
    let mut player = Player::new(pcm_format::U8, 1, 64);
    player.queue(&noise(10, 1));
    // Before START.
    assert_eq!(player.cycle(4, 8).0, [0x80; 4]);
    assert_eq!((player.meter.count(), player.meter.take_missing()), (0, 0));
    player.meter.go(0);
    assert_eq!(player.cycle(4, 8).0, noise(10, 1)[..4]);
    // STOP: exactly four frames have been played; the six behind are handed over again.
    assert_eq!(player.meter.halt(), 4);
    assert_eq!(player.cycle(4, 8).0, [0x80; 4]);
    player.queue(&noise(10, 1)[4..]);
    player.meter.go(10);
    assert_eq!(player.cycle(5, 8).0, noise(10, 1)[4..9]);
    assert_eq!(player.meter.count(), 15);
    assert_eq!(player.meter.take_missing(), 0);
    assert_eq!(player.cycle(2, 8).0, [noise(10, 1)[9], 0x80]);
    assert_eq!(player.meter.take_missing(), 1);
}

#[test]
fn the_audio_thread_is_woken_where_it_asked_to_be() {
    let bell = Arc::new(EventFd::from_flags(nix::sys::eventfd::EfdFlags::EFD_NONBLOCK).unwrap());
    let meter = Arc::new(Meter::new(Arc::clone(&bell)));
    let (mut ring, taken) = RingBuffer::new(64);
    let mut feed = Playback::new(Arc::clone(&meter), taken, pcm_format::U8, 1);
    ring.push_entire_slice(&noise(32, 1)).unwrap();
    meter.go(0);
    meter.set_alarm(8);
    feed.fill(&mut [0; 7], &cycle(7));
    assert!(bell.read().is_err());
    feed.fill(&mut [0; 7], &cycle(1));
    assert!(bell.read().is_ok());
    assert_eq!(meter.cycle().frames, 1);
}

#[test]
fn captured_frames_lie_where_the_chunk_says() {
    let meter = meter();
    let (full, mut ring) = RingBuffer::new(4 * 12);
    let mut feed = Capture::new(Arc::clone(&meter), full, 4);
    let data: Vec<u8> = (0..40).collect();
    // Before START nothing is taken.
    feed.take(&data, 0, 40, &cycle(0));
    assert_eq!((ring.slots(), meter.take_missing()), (0, 0));
    meter.go(0);
    let mut taken = |feed: &mut Capture, offset, size| {
        let found = allocation_counter::measure(|| feed.take(&data, offset, size, &cycle(0)));
        assert_eq!((found.count_total, found.count_current), (0, 0));
        let mut samples = vec![0; ring.slots()];
        ring.pop_entire_slice(&mut samples).unwrap();
        samples
    };
    assert_eq!(taken(&mut feed, 8, 12), data[8..20]);
    // Around the end of the buffer, which is a ring, and past it.
    assert_eq!(taken(&mut feed, 32, 16), [&data[32..], &data[..8]].concat());
    assert_eq!(taken(&mut feed, 48, 8), data[8..16]);
    // Not more than there is, and whole frames.
    assert_eq!(taken(&mut feed, 4, 1000).len(), 40);
    assert_eq!(taken(&mut feed, 4, 11), data[4..12]);
    assert!(taken(&mut feed, 0, 0).is_empty());
    assert_eq!(meter.count(), 3 + 4 + 2 + 10 + 2);
    assert_eq!(meter.take_missing(), 0);
}

#[test]
fn what_is_captured_around_the_ring_is_in_order_and_what_finds_no_room_is_lost() {
    let meter = meter();
    let (full, mut ring) = RingBuffer::new(3 * 10);
    let mut feed = Capture::new(Arc::clone(&meter), full, 3);
    meter.go(0);
    let sound = noise(3 * 70, 9);
    let mut heard = Vec::new();
    for part in sound.chunks(3 * 7) {
        feed.take(part, 0, part.len(), &cycle(0));
        let mut samples = vec![0; ring.slots()];
        ring.pop_entire_slice(&mut samples).unwrap();
        heard.extend(samples);
    }
    assert_eq!(heard, sound);
    feed.take(&sound, 0, 3 * 16, &cycle(0));
    assert_eq!((ring.slots(), meter.take_missing()), (30, 6));
    assert_eq!(meter.count(), 80);
    feed.take(&[], 5, 5, &cycle(0));
    assert_eq!(meter.count(), 80);
}
