// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which messages of a queue this process holds, written down where the next process finds it
//! (vhost-user, "Inflight I/O tracking", split virtqueues). What has been given back is in the used
//! ring; between the two every message is found exactly once, whenever this process dies.

use std::sync::Arc;

use crate::area::Area;

/// Version of the region's format.
const VERSION: u64 = 1;
/// In the first word of a descriptor's state.
const HELD: u64 = 1;
const NEXT_SHIFT: u32 = 48;

/// A message that a predecessor has taken and not given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Index of its first descriptor.
    pub head: u16,
    /// Its number in the order in which messages were taken.
    pub serial: u64,
}

/// The region of one queue.
#[derive(Debug)]
pub struct Inflight {
    area: Arc<Area>,
    at: usize,
    /// Of the message that was taken last.
    serial: u64,
    used: u16,
    /// Of the message that was given back last, and of the one before it.
    last: u16,
    before: u16,
}

impl Inflight {
    /// A region in which no message is held, for a queue whose used index is `used`.
    pub fn fresh(area: &Arc<Area>, queue: usize, used: u16) -> Self {
        let region = Self {
            area: Arc::clone(area),
            at: area.region(queue),
            serial: 0,
            used,
            last: 0,
            before: 0,
        };
        region.area.store(region.at, 0);
        region.area.store(region.at + 1, 0);
        for head in 0..area.queue_size() {
            region.area.store(region.state(head), 0);
            region.area.store(region.state(head) + 1, 0);
        }
        region.write_header();
        region
    }

    /// What a predecessor has left, for a queue of `size` entries whose used index is `used`; its
    /// messages in the order in which it took them. `None` where the region says nothing, or is not
    /// about this queue as it is now.
    pub fn recover(
        area: &Arc<Area>,
        queue: usize,
        size: u16,
        used: u16,
    ) -> Option<(Self, Vec<Taken>)> {
        let at = area.region(queue);
        let [version, entries, last, known] = quarters(area.load(at + 1));
        if u64::from(version) != VERSION || entries != area.queue_size() || size > entries {
            return None;
        }
        let mut region = Self {
            area: Arc::clone(area),
            at,
            serial: 0,
            used,
            last,
            before: 0,
        };
        match used.wrapping_sub(known) {
            0 => {}
            // It died when it had given a message back, before it had written that down.
            1 if last < size => region.put(last, false),
            _ => return None,
        }
        region.write_header();
        let mut held = Vec::new();
        for head in 0..entries {
            let serial = area.load(region.state(head) + 1);
            region.serial = region.serial.max(serial);
            if area.load(region.state(head)) & HELD != 0 {
                held.push(Taken { head, serial });
            }
        }
        held.sort_by_key(|taken| taken.serial);
        let doubt = held.windows(2).any(|pair| match pair {
            [one, two] => one.serial == two.serial,
            _ => false,
        });
        let outside = held.iter().any(|taken| taken.head >= size);
        // A number that cannot be counted on from is none that was counted to.
        (!doubt && !outside && region.serial < u64::MAX / 2).then_some((region, held))
    }

    /// Number of the message that was taken last.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// A message has been taken; returns its number.
    pub fn take(&mut self, head: u16) -> u64 {
        self.serial += 1;
        self.hold(head, self.serial);
        self.serial
    }

    /// A message is held that was taken before this region was begun.
    pub fn hold(&mut self, head: u16, serial: u64) {
        self.serial = self.serial.max(serial);
        if head < self.area.queue_size() {
            self.area.store(self.state(head) + 1, serial);
            self.put(head, true);
        }
    }

    /// Counts on from this number.
    pub fn count_from(&mut self, serial: u64) {
        self.serial = self.serial.max(serial);
    }

    /// A message is about to be given back.
    pub fn give_back(&mut self, head: u16) {
        self.before = std::mem::replace(&mut self.last, head);
        self.put(head, true);
        self.write_header();
    }

    /// It has been given back: the used index is `used` now.
    pub fn given_back(&mut self, used: u16) {
        self.put(self.last, false);
        self.used = used;
        self.write_header();
    }

    /// The word with the state of a descriptor; the one with its number follows.
    fn state(&self, head: u16) -> usize {
        self.at + 2 + 2 * usize::from(head)
    }

    fn put(&self, head: u16, held: bool) {
        if head < self.area.queue_size() {
            let next = u64::from(self.before) << NEXT_SHIFT;
            self.area.store(self.state(head), next | u64::from(held));
        }
    }

    fn write_header(&self) {
        let [entries, last, used] = [self.area.queue_size(), self.last, self.used].map(u64::from);
        let header = VERSION | entries << 16 | last << 32 | used << 48;
        self.area.store(self.at + 1, header);
    }
}

/// A word as its four parts of 16 bits, lowest first.
fn quarters(word: u64) -> [u16; 4] {
    [0, 16, 32, 48].map(|shift| (word >> shift) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u16 = 8;

    fn area() -> Arc<Area> {
        let (message, file) = Area::create(4, SIZE, 0).unwrap();
        Arc::new(Area::map(&message, file).unwrap())
    }

    fn recovered(area: &Arc<Area>, used: u16) -> Option<Vec<(u16, u64)>> {
        let (_, held) = Inflight::recover(area, 2, SIZE, used)?;
        Some(
            held.iter()
                .map(|taken| (taken.head, taken.serial))
                .collect(),
        )
    }

    #[test]
    fn what_was_taken_and_not_given_back_is_found_in_order() {
        let area = area();
        let mut region = Inflight::fresh(&area, 2, 65535);
        for head in [5, 0, 7, 3] {
            region.take(head);
        }
        region.give_back(0);
        region.given_back(0);
        region.give_back(5);
        region.given_back(1);
        region.take(5);
        assert_eq!(recovered(&area, 1).unwrap(), [(7, 3), (3, 4), (5, 5)]);
        // The next one counts on, even where nothing is held any more.
        let (mut region, held) = Inflight::recover(&area, 2, SIZE, 1).unwrap();
        for (used, taken) in (2..).zip(held) {
            region.give_back(taken.head);
            region.given_back(used);
        }
        let (mut region, held) = Inflight::recover(&area, 2, SIZE, 4).unwrap();
        assert!(held.is_empty());
        assert_eq!(region.take(1), 6);
    }

    #[test]
    fn whenever_it_dies_a_message_is_held_or_used_and_not_both() {
        let area = area();
        let mut region = Inflight::fresh(&area, 2, 0);
        region.take(4);
        region.take(6);
        assert_eq!(recovered(&area, 0).unwrap(), [(4, 1), (6, 2)]);
        region.give_back(6);
        assert_eq!(recovered(&area, 0).unwrap(), [(4, 1), (6, 2)]);
        // The used ring has it; the region does not say so yet.
        assert_eq!(recovered(&area, 1).unwrap(), [(4, 1)]);
        // And that is settled now.
        assert_eq!(recovered(&area, 1).unwrap(), [(4, 1)]);
    }

    #[test]
    fn a_region_of_another_queue_or_in_disorder_says_nothing() {
        let area = area();
        assert_eq!(recovered(&area, 0), None, "an empty file");
        let mut region = Inflight::fresh(&area, 2, 10);
        region.take(1);
        region.take(2);
        for used in [9, 12, 500] {
            assert_eq!(recovered(&area, used), None, "used index {used}");
        }
        assert!(Inflight::recover(&area, 2, SIZE * 2, 10).is_none());
        assert!(Inflight::recover(&area, 2, 2, 10).is_none(), "head 2 of 2");
        assert!(Inflight::recover(&area, 3, SIZE, 0).is_none());
        // Two messages of one number.
        area.store(area.region(2) + 2 + 2 * 2 + 1, 1);
        assert_eq!(recovered(&area, 10), None);
        area.store(area.region(2) + 2 + 2 * 2 + 1, u64::MAX);
        assert_eq!(recovered(&area, 10), None);
    }

    #[test]
    fn nonsense_never_panics() {
        let mut random = 1u64;
        let mut next = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random
        };
        for _ in 0..2000 {
            let area = area();
            for at in 0..area.region(3) {
                area.store(at, next());
            }
            let header = area.region(2) + 1;
            area.store(header, next() << 32 | u64::from(SIZE) << 16 | VERSION);
            for used in 0..32 {
                if let Some((mut region, held)) = Inflight::recover(&area, 2, SIZE, used) {
                    assert!(held.len() <= usize::from(SIZE));
                    region.take(next() as u16);
                    region.give_back(next() as u16);
                    region.given_back(next() as u16);
                }
            }
        }
    }
}
