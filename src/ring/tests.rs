// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! When a ring lets its driver kick, judged by what the Linux driver makes of it.

use super::*;

const SIZE: u16 = 8;
const DESC: GuestAddress = GuestAddress(0);
const AVAIL: GuestAddress = GuestAddress(0x100);
const USED: GuestAddress = GuestAddress(0x200);

/// The driver's side, as in Linux's virtio_ring.c.
struct Driver {
    memory: GuestMemoryMmap,
    event_idx: bool,
    next: u16,
    /// As it was when the driver last asked itself whether to kick.
    asked: u16,
}

impl Driver {
    fn new(event_idx: bool, base: u16) -> (Self, Ring) {
        let memory = GuestMemoryMmap::from_ranges(&[(DESC, 0x1000)]).unwrap();
        let driver = Self {
            memory,
            event_idx,
            next: base,
            asked: base,
        };
        for index in [AVAIL, USED] {
            driver.store(index.unchecked_add(2), base);
        }
        let setup = Setup {
            size: SIZE,
            desc: DESC,
            avail: AVAIL,
            used: USED,
            base,
            event_idx,
            enabled: true,
            kick: None,
            call: None,
            err: None,
        };
        let ring = Ring::new(setup, &driver.memory).unwrap();
        (driver, ring)
    }

    fn store(&self, at: GuestAddress, value: u16) {
        self.memory.store(value, at, Ordering::SeqCst).unwrap();
    }

    fn load(&self, at: GuestAddress) -> u16 {
        self.memory.load(at, Ordering::SeqCst).unwrap()
    }

    fn add(&mut self, messages: u16) {
        self.next = self.next.wrapping_add(messages);
        self.store(AVAIL.unchecked_add(2), self.next);
    }

    /// virtqueue_kick_prepare
    fn kicks(&mut self) -> bool {
        let old = std::mem::replace(&mut self.asked, self.next);
        if !self.event_idx {
            return self.load(USED) & NO_NOTIFY == 0;
        }
        let event = self.load(USED.unchecked_add(4 + 8 * u64::from(SIZE)));
        self.next.wrapping_sub(event).wrapping_sub(1) < self.next.wrapping_sub(old)
    }
}

fn take_all(driver: &Driver, ring: &mut Ring) -> u16 {
    std::iter::from_fn(|| ring.take(&driver.memory).unwrap().map(|_| 1)).sum()
}

/// Every number of messages before and behind each change of mind, at every index.
fn everywhere(event_idx: bool, mut check: impl FnMut(&mut Driver, &mut Ring, u16)) {
    let (mut driver, mut ring) = Driver::new(event_idx, 0);
    for round in 0..=u16::MAX {
        check(&mut driver, &mut ring, 1 + round % SIZE);
        assert_eq!(ring.next_avail(), driver.next);
    }
}

#[test]
fn a_driver_that_is_to_kick_does_so_for_its_next_message() {
    for event_idx in [true, false] {
        everywhere(event_idx, |driver, ring, batch| {
            ring.listen(&driver.memory, false);
            assert!(!ring.listen(&driver.memory, true));
            // Said twice, it still holds.
            assert!(!ring.listen(&driver.memory, true));
            driver.add(batch);
            assert!(driver.kicks());
            assert_eq!(take_all(driver, ring), batch);
        });
    }
}

#[test]
fn a_driver_that_is_not_to_kick_does_not() {
    for event_idx in [true, false] {
        everywhere(event_idx, |driver, ring, batch| {
            assert!(!ring.listen(&driver.memory, false));
            driver.add(batch);
            assert!(!driver.kicks());
            assert_eq!(take_all(driver, ring), batch);
        });
    }
}

#[test]
fn a_message_that_came_before_the_driver_could_know_is_found_or_kicked_for() {
    for event_idx in [true, false] {
        everywhere(event_idx, |driver, ring, batch| {
            ring.listen(&driver.memory, false);
            driver.add(batch);
            // The driver asks itself before the device changes its mind, or after that.
            let before = batch % 2 == 0;
            assert!(!before || !driver.kicks());
            assert!(ring.listen(&driver.memory, true));
            assert!(before || driver.kicks());
            assert_eq!(take_all(driver, ring), batch);
            assert!(!ring.listen(&driver.memory, true));
        });
    }
}
