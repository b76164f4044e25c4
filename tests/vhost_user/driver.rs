// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The driver side of a split virtqueue (virtio 1.3, 2.7), with the means to break its rules.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::memory::SharedMemory;

/// How long a device may take for anything before the test gives up.
pub const LIMIT: Duration = Duration::from_secs(30);

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// One descriptor's worth of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    pub address: u64,
    pub length: u32,
    pub writable: bool,
}

impl Buffer {
    pub fn readable(address: u64, length: u32) -> Self {
        let writable = false;
        Self {
            address,
            length,
            writable,
        }
    }

    pub fn writable(address: u64, length: u32) -> Self {
        let writable = true;
        Self {
            address,
            length,
            writable,
        }
    }
}

/// An entry of the used ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    pub head: u16,
    pub length: u32,
}

/// One queue.
pub struct Virtqueue {
    memory: Rc<SharedMemory>,
    pub size: u16,
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
    pub kick: EventFd,
    pub call: EventFd,
    event_idx: bool,
    free: Vec<u16>,
    chains: HashMap<u16, Vec<u16>>,
    /// Index behind the newest message, and behind the newest that the device was kicked for.
    pub avail_index: u16,
    kicked_index: u16,
    used_index: u16,
    /// How often the driver kicked, and how often it was called.
    pub kicks: u64,
    pub calls: u64,
}

fn eventfd() -> EventFd {
    EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).unwrap()
}

impl Virtqueue {
    /// A queue of `size` entries, somewhere in `memory`.
    pub fn new(memory: &Rc<SharedMemory>, size: u16, event_idx: bool) -> Self {
        let entries = u64::from(size);
        Self {
            memory: Rc::clone(memory),
            size,
            desc: memory.allocate(16 * entries, true),
            avail: memory.allocate(6 + 2 * entries, true),
            used: memory.allocate(6 + 8 * entries, true),
            kick: eventfd(),
            call: eventfd(),
            event_idx,
            free: (0..size).rev().collect(),
            chains: HashMap::new(),
            avail_index: 0,
            kicked_index: 0,
            used_index: 0,
            kicks: 0,
            calls: 0,
        }
    }

    /// Clears the rings, as a driver does that starts anew.
    pub fn reset(&mut self) {
        let entries = usize::from(self.size);
        self.memory.write(self.desc, &vec![0; 16 * entries]);
        self.memory.write(self.avail, &vec![0; 6 + 2 * entries]);
        self.memory.write(self.used, &vec![0; 6 + 8 * entries]);
        self.free = (0..self.size).rev().collect();
        self.chains.clear();
        (self.avail_index, self.kicked_index, self.used_index) = (0, 0, 0);
        self.renew_eventfds();
    }

    /// New eventfds, for a new frontend. What was not called for yet is looked for anyway.
    pub fn renew_eventfds(&mut self) {
        (self.kick, self.call) = (eventfd(), eventfd());
    }

    /// The used index in memory.
    pub fn used_index_in_memory(&self) -> u16 {
        self.memory.load16(self.used + 2)
    }

    pub fn write_descriptor(&self, index: u16, buffer: Buffer, flags: u16, next: u16) {
        self.write_descriptor_at(self.desc + 16 * u64::from(index), buffer, flags, next);
    }

    pub fn write_descriptor_at(&self, at: u64, buffer: Buffer, flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&buffer.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&buffer.length.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.memory.write(at, &bytes);
    }

    /// Puts a chain into the descriptor table; returns its descriptors.
    pub fn chain(&mut self, buffers: &[Buffer]) -> Vec<u16> {
        let at = self.free.len().checked_sub(buffers.len());
        let mut taken = self.free.split_off(at.expect("the queue is full"));
        taken.reverse();
        for (place, (&index, &buffer)) in taken.iter().zip(buffers).enumerate() {
            let next = taken.get(place + 1);
            let flags = if buffer.writable { WRITE } else { 0 };
            let flags = flags | if next.is_some() { NEXT } else { 0 };
            self.write_descriptor(index, buffer, flags, next.copied().unwrap_or(0));
        }
        self.chains.insert(taken[0], taken.clone());
        taken
    }

    /// Makes the chain that starts at `head` available.
    pub fn offer(&mut self, head: u16) {
        let place = u64::from(self.avail_index % self.size);
        self.memory.store16(self.avail + 4 + 2 * place, head);
        self.avail_index = self.avail_index.wrapping_add(1);
        self.memory.store16(self.avail + 2, self.avail_index);
    }

    /// Puts a chain into a table of its own (2.7.5.3); returns where that is.
    pub fn table(&self, buffers: &[Buffer]) -> Buffer {
        let length = 16 * buffers.len() as u64;
        let at = self.memory.allocate(length, false);
        for (place, buffer) in buffers.iter().enumerate() {
            let next = u16::try_from(place + 1).unwrap();
            let flags = if buffer.writable { WRITE } else { 0 };
            let last = place + 1 == buffers.len();
            let flags = flags | if last { 0 } else { NEXT };
            self.write_descriptor_at(at + 16 * place as u64, *buffer, flags, next);
        }
        Buffer::readable(at, u32::try_from(length).unwrap())
    }

    /// Adds a message that is a table of descriptors; returns its head.
    pub fn add_table(&mut self, table: Buffer) -> u16 {
        let head = self.chain(&[table])[0];
        self.write_descriptor(head, table, INDIRECT, 0);
        self.offer(head);
        head
    }

    /// Adds a message; returns its head.
    pub fn add(&mut self, buffers: &[Buffer]) -> u16 {
        let head = self.chain(buffers)[0];
        self.offer(head);
        head
    }

    /// Adds a message of descriptors that have come back, as they are.
    pub fn add_again(&mut self, chain: &[u16]) {
        self.free.retain(|index| !chain.contains(index));
        self.chains.insert(chain[0], chain.to_vec());
        self.offer(chain[0]);
    }

    /// Kicks if the device wants that (2.7.10).
    pub fn kick(&mut self) {
        let old = std::mem::replace(&mut self.kicked_index, self.avail_index);
        if self.wants_kick(old, self.avail_index) {
            self.kick_anyway();
        }
    }

    /// Whether the device wants to be kicked for the next message.
    pub fn listens(&self) -> bool {
        self.wants_kick(self.avail_index, self.avail_index.wrapping_add(1))
    }

    /// Whether the device wants to be kicked when the index has gone from `old` to `new`.
    fn wants_kick(&self, old: u16, new: u16) -> bool {
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = self.memory.load16(self.used + 4 + 8 * u64::from(self.size));
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            self.memory.load16(self.used) & 1 == 0
        }
    }

    /// Kicks whatever the device wants.
    pub fn kick_anyway(&mut self) {
        self.kicks += 1;
        self.kick.write(1).unwrap();
    }

    /// The next message that came back, if there is one.
    pub fn take_used(&mut self) -> Option<Used> {
        if self.used_index_in_memory() == self.used_index {
            return None;
        }
        let place = u64::from(self.used_index % self.size);
        let entry = self.memory.read(self.used + 4 + 8 * place, 8);
        let id = u32::from_le_bytes(entry[..4].try_into().unwrap());
        let length = u32::from_le_bytes(entry[4..].try_into().unwrap());
        self.used_index = self.used_index.wrapping_add(1);
        let head = u16::try_from(id).expect("used id is no head");
        let chain = self.chains.remove(&head);
        let chain = chain.unwrap_or_else(|| panic!("head {head} came back, but was not out"));
        self.free.extend(chain);
        Some(Used { head, length })
    }

    /// Waits until the next message comes back, and for the interrupt that has to say so.
    pub fn wait_used(&mut self) -> Used {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(used) = self.take_used() {
                return used;
            }
            if self.event_idx {
                let at = self.avail + 4 + 2 * u64::from(self.size);
                self.memory.store16(at, self.used_index);
                fence(Ordering::SeqCst);
                if let Some(used) = self.take_used() {
                    return used;
                }
            }
            let called = self.wait_call(end);
            let lost = !called && self.used_index_in_memory() != self.used_index;
            assert!(!lost, "a message came back, but the driver was not called");
            assert!(called, "no message came back");
        }
    }

    /// Whether the driver is called before `end`.
    fn wait_call(&mut self, end: Instant) -> bool {
        let epoll = Epoll::new().unwrap();
        let event = EpollEvent::new(EventSet::IN, 0);
        epoll
            .ctl(ControlOperation::Add, self.call.as_raw_fd(), event)
            .unwrap();
        let mut events = [EpollEvent::default()];
        let called = loop {
            let left = end.saturating_duration_since(Instant::now()).as_millis();
            match epoll.wait(left as i32, &mut events) {
                // A busy machine interrupts the wait; it goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                found => break found.unwrap() > 0,
            }
        };
        if called {
            self.calls += self.call.read().unwrap();
        }
        called
    }
}
