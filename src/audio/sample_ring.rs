// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Whole frames into and out of a ring between the audio thread and a thread that may wait. Both ends
//! are without locks, and nothing here allocates.

#[cfg(any(feature = "gstreamer", feature = "pipewire"))]
use rtrb::Consumer;
use rtrb::Producer;

/// Bytes of a ring for `seconds` of sound, whole frames between `least` and `most` bytes.
pub fn room(frame_bytes: usize, rate: u32, seconds: usize, least: usize, most: usize) -> usize {
    let frame_bytes = frame_bytes.max(1);
    let second = frame_bytes.saturating_mul(rate as usize);
    let room = second.saturating_mul(seconds).clamp(least, most);
    room / frame_bytes * frame_bytes
}

/// Has `fill` write up to `frames` frames into the ring, in one or two parts; returns how many there
/// was room for.
pub fn put(
    ring: &mut Producer<u8>,
    frame_bytes: usize,
    frames: u64,
    fill: &mut dyn FnMut(&mut [u8]),
) -> u64 {
    let room = ring.slots() / frame_bytes.max(1);
    let taken = usize::try_from(frames).unwrap_or(usize::MAX).min(room);
    let Ok(mut chunk) = ring.write_chunk(taken * frame_bytes) else {
        return 0;
    };
    // The ring has room for whole frames, so neither part ends within one.
    let (first, second) = chunk.as_mut_slices();
    for part in [first, second] {
        if !part.is_empty() {
            fill(part);
        }
    }
    chunk.commit_all();
    taken as u64
}

/// Has `drain` read up to `frames` frames from the ring, in one or two parts; returns how many there
/// were.
#[cfg(any(feature = "gstreamer", feature = "pipewire"))]
pub fn take(
    ring: &mut Consumer<u8>,
    frame_bytes: usize,
    frames: u64,
    drain: &mut dyn FnMut(&[u8]),
) -> u64 {
    let there = ring.slots() / frame_bytes.max(1);
    let taken = usize::try_from(frames).unwrap_or(usize::MAX).min(there);
    let Ok(chunk) = ring.read_chunk(taken * frame_bytes) else {
        return 0;
    };
    let (first, second) = chunk.as_slices();
    for part in [first, second] {
        if !part.is_empty() {
            drain(part);
        }
    }
    chunk.commit_all();
    taken as u64
}
