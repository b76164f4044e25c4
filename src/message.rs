// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a tx or rx chain holds (virtio 1.3, 5.14.6.8), whatever the driver has put into it.

use virtio_queue::DescriptorChain;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

use crate::wire::{self, Direction, PCM_STATUS_SIZE, Status, XFER_SIZE};

/// Most descriptors of one message that are looked at, and so most of its segments: a period of 16 MiB in
/// pages, a header and a status, whose table of indirect descriptors is longer than the queue. A hostile
/// table goes on for longer, with descriptors of no bytes or that follow each other in a circle.
pub const MAX_SEGMENTS: usize = 4096 + 2;
/// Descriptors that are looked at in one wake-up, after which messages wait for the next one: many times
/// what drivers send, and about a millisecond. Beyond that, a flood would keep running streams waiting.
const DESCRIPTORS: usize = 16 * MAX_SEGMENTS;

/// A run of bytes of the driver's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts.
    pub address: GuestAddress,
    /// Bytes, at least 1.
    pub length: u32,
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
    /// Descriptors that were looked at in this wake-up.
    looked_at: usize,
}

impl Decoder {
    /// A decoder for tx (playback) or rx (capture) messages.
    pub fn new(direction: Direction) -> Self {
        let segments = Vec::with_capacity(MAX_SEGMENTS + 1);
        Self {
            direction,
            segments,
            payload_segments: 0,
            looked_at: 0,
        }
    }

    /// Another wake-up begins.
    pub fn wake(&mut self) {
        self.looked_at = 0;
    }

    /// Whether what is left is to wait for the next wake-up.
    pub fn has_enough(&self) -> bool {
        self.looked_at >= DESCRIPTORS
    }

    /// Reads the descriptors of a chain. Any layout of the bytes over descriptors is understood.
    pub fn decode(&mut self, chain: DescriptorChain<&GuestMemoryMmap>) -> Arrival {
        let memory: &GuestMemoryMmap = chain.memory();
        let head = chain.head_index();
        self.segments.clear();
        let mut xfer = [0; XFER_SIZE];
        let (mut read, mut readable, mut writable) = (0, 0u64, 0u64);
        let mut reachable = true;
        for (number, descriptor) in chain.clone().enumerate() {
            if number == MAX_SEGMENTS {
                // Whatever else a hostile table holds is not worth the time.
                reachable = false;
                break;
            }
            self.looked_at += 1;
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
                self.segments.push(Segment { address, length });
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
        write_status(memory, self.segments().1.iter().copied(), status, 0)
    }

    /// Where the samples of the decoded message lie, and where its status goes.
    pub fn segments(&self) -> (&[Segment], &[Segment]) {
        self.segments
            .split_at_checked(self.payload_segments)
            .unwrap_or_default()
    }
}

/// Writes a status over the first bytes of `place`. Returns the bytes written.
pub fn write_status(
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
