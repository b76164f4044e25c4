// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The I/O messages of one stream that the device holds, in the order in which they came: where in
//! them the next frame is copied, and when each is through.
//!
//! Nothing here allocates once a [`Lane`] exists.

use std::collections::VecDeque;

use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

use crate::message::{Arrival, Decoder, Segment, write_status};
use crate::ring::MAX_SIZE;
use crate::wire::{Direction, Status};

/// A message that the device holds.
#[derive(Clone, Copy, Debug)]
struct Message {
    head: u16,
    /// How many of the lane's segments are samples, and how many behind them are the status.
    payload_segments: usize,
    status_segments: usize,
    /// Bytes of samples.
    bytes: u32,
    /// Bytes of samples that have been copied.
    done: u32,
    /// Position of the host behind the last copied frame.
    end: u64,
}

/// The room in a lane.
#[derive(Clone, Copy)]
struct Room {
    messages: usize,
    segments: usize,
}

/// The messages of one stream.
pub struct Lane {
    direction: Direction,
    frame_bytes: u32,
    messages: VecDeque<Message>,
    segments: VecDeque<Segment>,
    room: Room,
}

/// A message that leaves its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Index of its first descriptor.
    pub head: u16,
    /// Bytes written to it, for the used ring.
    pub written: u32,
}

impl Lane {
    /// An empty lane with room for all descriptors of a queue.
    pub fn new(direction: Direction) -> Self {
        // Each descriptor is one segment, and one more where the samples end inside it.
        let room = Room {
            messages: MAX_SIZE.into(),
            segments: 2 * usize::from(MAX_SIZE),
        };
        Self {
            direction,
            frame_bytes: 1,
            messages: VecDeque::with_capacity(room.messages),
            segments: VecDeque::with_capacity(room.segments),
            room,
        }
    }

    /// Bytes of a frame of the messages to come.
    pub fn set_frame_bytes(&mut self, frame_bytes: u32) {
        self.frame_bytes = frame_bytes.max(1);
    }

    /// How many messages are held.
    pub fn held(&self) -> usize {
        self.messages.len()
    }

    /// Whether a message with this first descriptor is held.
    pub fn holds(&self, head: u16) -> bool {
        self.messages.iter().any(|message| message.head == head)
    }

    /// Whether a message of `bytes` bytes is whole frames, and at least one.
    pub fn fits(&self, bytes: u32) -> bool {
        bytes > 0 && bytes.is_multiple_of(self.frame_bytes)
    }

    /// Takes the message that `decoder` holds; false where the lane is full, which only a driver
    /// that queues the same descriptors twice brings about.
    pub fn push(&mut self, decoder: &Decoder, arrival: Arrival) -> bool {
        let (payload, status) = decoder.segments();
        let segments = payload.len() + status.len();
        if self.messages.len() >= self.room.messages
            || self.segments.len() + segments > self.room.segments
        {
            return false;
        }
        self.segments.extend(payload.iter().chain(status).copied());
        self.messages.push_back(Message {
            head: arrival.head,
            payload_segments: payload.len(),
            status_segments: status.len(),
            bytes: arrival.bytes,
            done: 0,
            end: 0,
        });
        true
    }

    /// Frames that are not copied yet.
    pub fn pending_frames(&self) -> u64 {
        let bytes: u64 = self
            .messages
            .iter()
            .map(|m| u64::from(m.bytes - m.done))
            .sum();
        bytes / u64::from(self.frame_bytes)
    }

    /// The position at which the oldest message ends, if the next frame is copied at `cursor`.
    pub fn front_end(&self, cursor: u64) -> Option<u64> {
        let front = self.messages.front()?;
        let left = front.bytes - front.done;
        Some(if left == 0 {
            front.end
        } else {
            cursor + u64::from(left / self.frame_bytes)
        })
    }

    /// Visits `length` bytes of samples, `skip` bytes behind what has been copied.
    fn visit(&self, skip: usize, length: usize, mut visit: impl FnMut(GuestAddress, usize, usize)) {
        let (mut skip, mut at, mut first) = (skip, 0, 0);
        for message in &self.messages {
            let mut done = message.done as usize;
            for place in first..first + message.payload_segments {
                let Some(segment) = self.segments.get(place) else {
                    return;
                };
                let size = segment.length as usize;
                let before = done.min(size);
                done -= before;
                let jump = skip.min(size - before);
                skip -= jump;
                let run = (size - before - jump).min(length - at);
                if run > 0 {
                    visit(
                        segment.address.unchecked_add((before + jump) as u64),
                        at,
                        run,
                    );
                    at += run;
                }
                if at == length {
                    return;
                }
            }
            first += message.payload_segments + message.status_segments;
        }
    }

    /// Copies samples of playback messages into `to`, from `skip` bytes behind what has been copied
    /// on. Bytes that the driver has taken away stay as they are.
    pub fn copy_out(&self, memory: &GuestMemoryMmap, skip: usize, to: &mut [u8]) {
        let length = to.len();
        self.visit(skip, length, |address, at, run| {
            if let Some(part) = to.get_mut(at..at + run) {
                let _ = memory.read_slice(part, address);
            }
        });
    }

    /// Copies samples into capture messages; see [`Lane::copy_out`].
    pub fn copy_in(&self, memory: &GuestMemoryMmap, skip: usize, from: &[u8]) {
        self.visit(skip, from.len(), |address, at, run| {
            if let Some(part) = from.get(at..at + run) {
                let _ = memory.write_slice(part, address);
            }
        });
    }

    /// Counts `frames` frames as copied, the first of them at position `start`.
    pub fn advance(&mut self, frames: u64, start: u64) {
        let mut position = start;
        let mut left = frames.saturating_mul(u64::from(self.frame_bytes));
        for message in self.messages.iter_mut().filter(|m| m.done < m.bytes) {
            if left == 0 {
                return;
            }
            let step = u64::from(message.bytes - message.done).min(left);
            message.done += step as u32;
            left -= step;
            position += step / u64::from(self.frame_bytes);
            message.end = position;
        }
    }

    /// Takes back what was copied but lies beyond `position`: it has not been heard.
    pub fn rewind(&mut self, position: u64) {
        let frame_bytes = u64::from(self.frame_bytes);
        for message in self.messages.iter_mut().rev() {
            let unheard = message
                .end
                .saturating_sub(position)
                .saturating_mul(frame_bytes);
            let back = u64::from(message.done).min(unheard);
            message.done -= back as u32;
            message.end = message.end.min(position);
        }
    }

    /// The oldest message, once it has been copied whole and its end passed by `position`.
    /// `latency_bytes` is what lies between position and loudspeaker or microphone.
    pub fn finish(
        &mut self,
        memory: &GuestMemoryMmap,
        position: u64,
        latency_bytes: u32,
    ) -> Option<Finished> {
        let front = *self.messages.front()?;
        if front.done < front.bytes || front.end > position {
            return None;
        }
        Some(self.pop(memory, front, Status::Ok, latency_bytes))
    }

    /// The oldest message, as it is.
    pub fn flush(&mut self, memory: &GuestMemoryMmap, status: Status) -> Option<Finished> {
        let front = *self.messages.front()?;
        let front = Message { done: 0, ..front };
        Some(self.pop(memory, front, status, 0))
    }

    /// Forgets all messages; their ring is gone.
    pub fn forget(&mut self) {
        self.messages.clear();
        self.segments.clear();
    }

    fn pop(
        &mut self,
        memory: &GuestMemoryMmap,
        front: Message,
        status: Status,
        latency_bytes: u32,
    ) -> Finished {
        let all = front.payload_segments + front.status_segments;
        let place = self
            .segments
            .range(front.payload_segments.min(all)..all)
            .copied();
        let status = write_status(memory, place, status, latency_bytes);
        let samples = if self.direction == Direction::Capture {
            front.done
        } else {
            0
        };
        self.messages.pop_front();
        self.segments.drain(..all);
        Finished {
            head: front.head,
            written: status.saturating_add(samples),
        }
    }
}
