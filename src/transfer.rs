// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The I/O messages of one stream that the device holds, in the order in which they came: where in
//! them the next frame is copied, and when each is through.
//!
//! Nothing here allocates once a [`Lane`] exists.

use std::collections::VecDeque;

use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

use crate::message::{Arrival, Decoder, MAX_SEGMENTS, Segment, write_status};
use crate::ring::MAX_SIZE;
use crate::wire::{Direction, Status};

/// A message that the device holds.
#[derive(Clone, Copy, Debug)]
struct Message {
    head: u16,
    /// Its number in the order in which its queue's messages were taken.
    serial: u64,
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
        // The longest buffer of the Linux driver has half as many pages.
        let room = Room {
            messages: MAX_SIZE.into(),
            segments: 2 * MAX_SEGMENTS,
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
    pub fn push(&mut self, decoder: &Decoder, arrival: Arrival, serial: u64) -> bool {
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
            serial,
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

    /// Bytes of samples of the oldest message.
    pub fn front_bytes(&self) -> Option<u32> {
        self.messages.front().map(|message| message.bytes)
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

    /// Counts `frames` frames as through that no host has to do with.
    pub fn pass(&mut self, frames: u64) {
        let mut left = frames.saturating_mul(u64::from(self.frame_bytes));
        for message in self.messages.iter_mut().filter(|m| m.done < m.bytes) {
            let step = u64::from(message.bytes - message.done).min(left);
            message.done += step as u32;
            left -= step;
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

    /// First descriptors and numbers of the messages that are held.
    pub fn messages(&self) -> impl Iterator<Item = (u16, u64)> {
        self.messages
            .iter()
            .map(|message| (message.head, message.serial))
    }

    /// How far the stream is when its host has passed `position`: number of the oldest message that is
    /// not through, and how many of its frames are. `next`: the number of the message to come.
    pub fn mark(&self, position: u64, next: u64) -> (u64, u64) {
        let frame_bytes = u64::from(self.frame_bytes);
        for message in &self.messages {
            let ahead = message
                .end
                .saturating_sub(position)
                .saturating_mul(frame_bytes);
            let through = u64::from(message.done).saturating_sub(ahead);
            if through < u64::from(message.bytes) {
                return (message.serial, through / frame_bytes);
            }
        }
        (next, 0)
    }

    /// Counts as through what a process before this one has brought there, see [`Lane::mark`].
    pub fn go_on(&mut self, front: u64, frames: u64) {
        let bytes = frames.saturating_mul(self.frame_bytes.into());
        for message in self.messages.iter_mut().filter(|m| m.serial <= front) {
            message.done = match message.serial < front {
                true => message.bytes,
                false => u32::try_from(bytes).map_or(message.bytes, |done| done.min(message.bytes)),
            };
        }
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

#[cfg(test)]
mod tests {
    use virtio_queue::desc::{RawDescriptor, split::Descriptor};
    use virtio_queue::mock::MockSplitQueue;
    use virtio_queue::{Queue, QueueT};

    use super::*;

    const DATA: u64 = 0x1_0000;
    const FRAME: u32 = 6;
    /// Frames in each message; its 24 bytes lie in pieces of 10 and 14, across a frame.
    const FRAMES: u64 = 4;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2_0000)]).unwrap()
    }

    fn address(message: u64) -> u64 {
        DATA + message * 0x100
    }

    /// A lane with `count` messages; the bytes of message N are N * 32 and up.
    fn lane(memory: &GuestMemoryMmap, direction: Direction, count: u64) -> Lane {
        let device = if direction == Direction::Capture {
            2
        } else {
            0
        };
        let mock = MockSplitQueue::new(memory, 64);
        let mut descriptors = Vec::new();
        for message in 0..count {
            let at = address(message);
            let bytes: Vec<u8> = (0..24).map(|byte| (message * 32 + byte) as u8).collect();
            memory
                .write_slice(&bytes[..10], GuestAddress(at + 0x10))
                .unwrap();
            memory
                .write_slice(&bytes[10..], GuestAddress(at + 0x40))
                .unwrap();
            let first = message as u16 * 4;
            let chain = [
                (at, 4, 1),
                (at + 0x10, 10, 1 | device),
                (at + 0x40, 14, 1 | device),
                (at + 0x80, 8, 2),
            ];
            for (next, (address, length, flags)) in (first + 1..).zip(chain) {
                let descriptor = Descriptor::new(address, length, flags, next);
                descriptors.push(RawDescriptor::from(descriptor));
            }
        }
        mock.add_desc_chains(&descriptors, 0).unwrap();
        let mut queue: Queue = mock.create_queue().unwrap();
        let mut decoder = Decoder::new(direction);
        let mut lane = Lane::new(direction);
        lane.set_frame_bytes(FRAME);
        while let Some(chain) = queue.pop_descriptor_chain(memory) {
            let arrival = decoder.decode(chain);
            assert!(arrival.reachable && arrival.answerable && lane.fits(arrival.bytes));
            assert!(lane.push(&decoder, arrival, arrival.head.into()));
        }
        assert_eq!(
            (lane.held() as u64, lane.pending_frames()),
            (count, count * FRAMES)
        );
        lane
    }

    fn sound(count: u64) -> Vec<u8> {
        (0..count)
            .flat_map(|message| (0..24).map(move |byte| (message * 32 + byte) as u8))
            .collect()
    }

    #[test]
    fn samples_come_out_in_order_whatever_the_steps() {
        let memory = memory();
        for step in 1..=12u64 {
            let mut lane = lane(&memory, Direction::Playback, 3);
            let mut heard = Vec::new();
            while lane.pending_frames() > 0 {
                let frames = step.min(lane.pending_frames());
                let mut part = vec![0; (frames as u32 * FRAME) as usize];
                let half = part.len() / 2;
                lane.copy_out(&memory, 0, &mut part[..half]);
                lane.copy_out(&memory, half, &mut part[half..]);
                lane.advance(frames, 0);
                heard.extend(part);
            }
            assert_eq!(heard, sound(3), "{step} frames at a time");
        }
    }

    #[test]
    fn captured_samples_lie_where_the_driver_wants_them() {
        let memory = memory();
        let mut lane = lane(&memory, Direction::Capture, 2);
        let sound: Vec<u8> = (100..148).collect();
        lane.copy_in(&memory, 0, &sound[..30]);
        lane.advance(5, 0);
        lane.copy_in(&memory, 0, &sound[30..]);
        lane.advance(3, 5);
        for message in 0..2 {
            let mut read = [0; 24];
            let at = address(message);
            memory
                .read_slice(&mut read[..10], GuestAddress(at + 0x10))
                .unwrap();
            memory
                .read_slice(&mut read[10..], GuestAddress(at + 0x40))
                .unwrap();
            let start = message as usize * 24;
            assert_eq!(read, sound[start..start + 24]);
            assert_eq!(lane.finish(&memory, 8, 0).unwrap().written, 24 + 8);
        }
    }

    #[test]
    fn a_message_is_through_when_the_host_has_passed_it_not_when_it_is_copied() {
        let memory = memory();
        let mut lane = lane(&memory, Direction::Playback, 2);
        assert_eq!(lane.front_end(100), Some(104));
        lane.advance(6, 100);
        assert_eq!(lane.front_end(106), Some(104));
        assert_eq!(lane.finish(&memory, 103, 0), None);
        assert_eq!(
            lane.finish(&memory, 104, 7),
            Some(Finished {
                head: 0,
                written: 8
            })
        );
        let mut status = [0; 8];
        memory
            .read_slice(&mut status, GuestAddress(address(0) + 0x80))
            .unwrap();
        assert_eq!(status, [0, 0x80, 0, 0, 7, 0, 0, 0]);
        // The second is copied by half.
        assert_eq!(lane.front_end(106), Some(108));
        assert_eq!(lane.finish(&memory, 1000, 0), None);
    }

    #[test]
    fn what_was_copied_but_not_heard_is_copied_again() {
        let memory = memory();
        for heard in 0..=10u64 {
            let mut lane = lane(&memory, Direction::Playback, 3);
            lane.advance(10, 100);
            while lane.finish(&memory, 100 + heard, 0).is_some() {}
            lane.rewind(100 + heard);
            assert_eq!(lane.pending_frames(), 12 - heard);
            let mut rest = vec![0; (12 - heard) as usize * FRAME as usize];
            lane.copy_out(&memory, 0, &mut rest);
            assert_eq!(
                rest,
                sound(3)[(heard as usize * FRAME as usize)..],
                "{heard} heard"
            );
        }
    }

    #[test]
    fn a_flushed_capture_message_claims_no_samples() {
        let memory = memory();
        let mut lane = lane(&memory, Direction::Capture, 1);
        lane.advance(4, 0);
        let finished = Finished {
            head: 0,
            written: 8,
        };
        assert_eq!(lane.flush(&memory, Status::Ok), Some(finished));
        assert_eq!(lane.flush(&memory, Status::Ok), None);
    }
}
