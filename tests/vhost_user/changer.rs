// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A thread that changes the driver's memory while the device reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::card::Card;
use crate::driver::Buffer;
use crate::memory::SharedMemory;

/// Changes at least; then on until the sound is over, but not for ever.
const CHANGES: u64 = 200_000;
const MOST_CHANGES: u64 = 50_000_000;

/// Numbers that look like none in particular.
pub struct Dice(u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }
}

/// Changes things in another thread, until the sound is over.
pub struct Changer {
    over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Changer {
    pub fn start(
        card: &Card,
        mut change: impl FnMut(&SharedMemory, &mut Dice) + Send + 'static,
    ) -> Self {
        let memory = card.memory.mapped_again();
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
            let mut count = 0;
            while count < CHANGES || !seen.load(Ordering::Relaxed) && count < MOST_CHANGES {
                change(&memory, &mut dice);
                count += 1;
            }
            count
        });
        Self { over, thread }
    }

    pub fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        assert!(self.thread.join().unwrap() >= CHANGES);
    }
}

pub fn write_descriptor(memory: &SharedMemory, at: u64, buffer: Buffer, flags: u16, next: u16) {
    // In two writes, as a driver's compiler might.
    let address = buffer.address.to_le_bytes();
    let mut rest = buffer.length.to_le_bytes().to_vec();
    rest.extend(flags.to_le_bytes());
    rest.extend(next.to_le_bytes());
    memory.write(at, &address);
    memory.write(at + 8, &rest);
}

/// Offers any messages, but never more than a device may find.
pub struct Offers {
    pub avail: u64,
    pub used: u64,
    pub size: u64,
    pub index: u16,
    /// How many there were.
    pub count: Arc<AtomicU64>,
}

impl Offers {
    pub fn of(card: &Card, queue: usize) -> Self {
        let ring = &card.queues[queue];
        Self {
            avail: ring.avail,
            used: ring.used,
            size: ring.size.into(),
            index: card.memory.load16(ring.avail + 2),
            count: Arc::default(),
        }
    }

    /// Any head, while no more than half of a ring has not come back.
    pub fn offer(&mut self, memory: &SharedMemory, dice: &mut Dice) {
        let behind = self.index.wrapping_sub(memory.load16(self.used + 2));
        if u64::from(behind) >= self.size / 2 {
            return;
        }
        let place = u64::from(self.index) % self.size;
        memory.store16(self.avail + 4 + 2 * place, dice.below(self.size) as u16);
        self.index = self.index.wrapping_add(1);
        memory.store16(self.avail + 2, self.index);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}
