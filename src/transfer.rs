// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! I/O messages (virtio 1.3, 5.14.6.8): what a tx or rx chain holds, and the messages of one stream
//! that the device holds, in the order in which they came.
//!
//! Nothing here allocates once a [`Lane`] exists.

use std::collections::VecDeque;

use virtio_queue::DescriptorChain;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

use crate::ring::MAX_SIZE;
use crate::wire::{self, Direction, PCM_STATUS_SIZE, Status, XFER_SIZE};

/// A run of bytes of the driver's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    address: GuestAddress,
    length: u32,
}

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

/// A message that has been decoded but not taken yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Index of its first descriptor, to give it back.
    pub head: u16,
    /// The stream it names; `None` where it is too short to name one.
    pub stream: Option<u32>,
    /// Bytes of samples, or of room for samples.
    pub bytes: u32,
    /// Whether all of it lies in the driver's memory and in the right order.
    pub reachable: bool,
    /// Whether there is room for a status.
    pub answerable: bool,
}

/// Decodes one chain at a time; keeps its segments until the chain is taken or answered.
pub struct Decoder {
    direction: Direction,
    segments: Vec<Segment>,
    payload_segments: usize,
}

impl Decoder {
    /// A decoder for tx (playback) or rx (capture) messages.
    pub fn new(direction: Direction) -> Self {
        let segments = Vec::with_capacity(usize::from(MAX_SIZE) + 2);
        Self {
            direction,
            segments,
            payload_segments: 0,
        }
    }

    /// Reads the descriptors of a chain. Any layout of the bytes over descriptors is understood.
    pub fn decode(&mut self, chain: DescriptorChain<&GuestMemoryMmap>) -> Arrival {
        let memory: &GuestMemoryMmap = chain.memory();
        let head = chain.head_index();
        self.segments.clear();
        let mut xfer = [0; XFER_SIZE];
        let (mut read, mut readable, mut writable) = (0, 0u64, 0u64);
        let mut reachable = true;
        for descriptor in chain.clone() {
            let (mut address, mut length) = (descriptor.addr(), descriptor.len());
            let access = if descriptor.is_write_only() {
                Permissions::Write
            } else {
                Permissions::Read
            };
            // What the device reads comes before what it writes (2.7.4.2).
            let misplaced = !descriptor.is_write_only() && writable > 0;
            if misplaced || !memory.check_range(address, length as usize, access) {
                reachable = false;
                continue;
            }
            if descriptor.is_write_only() {
                writable += u64::from(length);
            } else {
                let wanted = (XFER_SIZE - read).min(length as usize);
                let part = xfer.get_mut(read..read + wanted).unwrap_or(&mut []);
                reachable &= memory.read_slice(part, address).is_ok();
                read += wanted;
                address = address.unchecked_add(wanted as u64);
                length -= wanted as u32;
                readable += u64::from(length);
                if self.direction == Direction::Capture {
                    continue;
                }
            }
            if length > 0 {
                // Only a table of indirect descriptors, which nobody offered, can be that long.
                let room = self.segments.len() <= usize::from(MAX_SIZE);
                reachable &= room;
                if room {
                    self.segments.push(Segment { address, length });
                }
            }
        }
        let answerable = writable >= PCM_STATUS_SIZE as u64;
        let bytes = match self.direction {
            Direction::Playback => readable,
            Direction::Capture => writable.saturating_sub(PCM_STATUS_SIZE as u64),
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.payload_segments = self.split(bytes);
        let stream = (read == XFER_SIZE).then(|| wire::parse_xfer(xfer));
        Arrival {
            head,
            stream,
            bytes,
            reachable,
            answerable,
        }
    }

    /// Splits the segments behind `bytes` bytes of samples; returns how many they are. Behind them
    /// lies the status, at its first bytes.
    fn split(&mut self, bytes: u32) -> usize {
        let mut left = bytes;
        for place in 0..self.segments.len() {
            if left == 0 {
                return place;
            }
            let Some(segment) = self.segments.get_mut(place) else {
                return place;
            };
            if segment.length <= left {
                left -= segment.length;
                continue;
            }
            let behind = Segment {
                address: segment.address.unchecked_add(u64::from(left)),
                length: segment.length - left,
            };
            segment.length = left;
            self.segments.insert(place + 1, behind);
            return place + 1;
        }
        self.segments.len()
    }

    /// Answers the decoded message without taking it. Returns the bytes written.
    pub fn answer(&self, memory: &GuestMemoryMmap, arrival: Arrival, status: Status) -> u32 {
        if !arrival.answerable {
            return 0;
        }
        let place = self.segments.get(self.payload_segments..).unwrap_or(&[]);
        write_status(memory, place.iter().copied(), status, 0)
    }
}

/// Writes a status over the first bytes of `place`. Returns the bytes written.
fn write_status(
    memory: &GuestMemoryMmap,
    place: impl Iterator<Item = Segment>,
    status: Status,
    latency_bytes: u32,
) -> u32 {
    let bytes = wire::pcm_status(status, latency_bytes);
    let mut rest: &[u8] = &bytes;
    for segment in place {
        let (part, behind) = rest.split_at(rest.len().min(segment.length as usize));
        if memory.write_slice(part, segment.address).is_err() {
            return 0;
        }
        rest = behind;
    }
    if rest.is_empty() {
        PCM_STATUS_SIZE as u32
    } else {
        0
    }
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
        let segments = decoder.segments.len();
        if self.messages.len() >= self.room.messages
            || self.segments.len() + segments > self.room.segments
        {
            return false;
        }
        self.segments.extend(decoder.segments.iter().copied());
        self.messages.push_back(Message {
            head: arrival.head,
            payload_segments: decoder.payload_segments,
            status_segments: segments - decoder.payload_segments,
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
