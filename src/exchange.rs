// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One message of the control queue: the request's bytes and the room for its response.

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, Permissions};

use crate::message::MAX_SEGMENTS;
use crate::ring::MAX_SIZE;
use crate::wire::{HEADER_SIZE, REQUEST_MAX, Request, Status};

/// A control message, decoded.
pub struct Exchange {
    head: u16,
    request: [u8; REQUEST_MAX],
    length: usize,
    reachable: bool,
    room: Vec<(GuestAddress, usize)>,
}

impl Exchange {
    /// An empty one with room for all descriptors of a queue.
    pub fn new() -> Self {
        Self {
            head: 0,
            request: [0; REQUEST_MAX],
            length: 0,
            reachable: false,
            room: Vec::with_capacity(MAX_SIZE.into()),
        }
    }

    /// Reads a message. Any layout of the bytes over descriptors is understood.
    pub fn read(&mut self, chain: DescriptorChain<&GuestMemoryMmap>) {
        let memory: &GuestMemoryMmap = chain.memory();
        self.head = chain.head_index();
        self.length = 0;
        self.reachable = true;
        self.room.clear();
        for (number, descriptor) in chain.clone().enumerate() {
            if number == MAX_SEGMENTS {
                self.reachable = false;
                break;
            }
            let (address, length) = (descriptor.addr(), descriptor.len() as usize);
            if descriptor.is_write_only() {
                if memory.check_range(address, length, Permissions::Write)
                    && self.room.len() < self.room.capacity()
                {
                    self.room.push((address, length));
                } else {
                    self.reachable = false;
                }
                continue;
            }
            let wanted = length.min(REQUEST_MAX - self.length);
            let part = self.request.get_mut(self.length..self.length + wanted);
            let read = part.is_some_and(|part| memory.read_slice(part, address).is_ok());
            self.reachable &= read && self.room.is_empty();
            self.length += wanted;
        }
    }

    /// Index of the first descriptor.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// The request; `None` where it is malformed.
    pub fn request(&self) -> Option<Request<'_>> {
        let bytes = self.request.get(..self.length).filter(|_| self.reachable)?;
        Request::parse(bytes)
    }

    /// Bytes of room for the response.
    pub fn room(&self) -> usize {
        self.room.iter().map(|(_, length)| length).sum()
    }

    /// Writes the response: `status` and, behind it, `items`. Returns the bytes written; 0 where
    /// not even the status fits.
    pub fn respond(&self, memory: &GuestMemoryMmap, status: Status, items: &[u8]) -> u32 {
        if self.room() < HEADER_SIZE {
            return 0;
        }
        let header = (status as u32).to_le_bytes();
        let mut written = 0;
        let mut rest = [&header[..], items].into_iter();
        let mut part = rest.next().unwrap_or(&[]);
        for &(mut address, mut length) in &self.room {
            while length > 0 {
                if part.is_empty() {
                    let Some(next) = rest.next() else {
                        return written;
                    };
                    part = next;
                    continue;
                }
                let (now, later) = part.split_at(part.len().min(length));
                if memory.write_slice(now, address).is_err() {
                    return 0;
                }
                address = GuestAddress(address.0.saturating_add(now.len() as u64));
                length -= now.len();
                written += now.len() as u32;
                part = later;
            }
        }
        written
    }
}
