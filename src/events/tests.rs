// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::mock::MockSplitQueue;
use vm_memory::{Address, GuestAddress};

use super::*;
use crate::ring::Setup;

const ROOM: u64 = 0x1_0000;
const WRITE: u16 = 2;
const NEXT: u16 = 1;
const SECOND: Nanos = 1_000_000_000;
/// What room holds that nothing was written to.
const UNTOUCHED: u8 = 0xee;

/// An event queue with its driver's side.
struct Driver<'a> {
    memory: &'a GuestMemoryMmap,
    mock: MockSplitQueue<'a, GuestMemoryMmap>,
    ring: Ring,
    seen: u16,
    rooms: u16,
}

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x2_0000)]).unwrap()
}

impl<'a> Driver<'a> {
    fn new(memory: &'a GuestMemoryMmap) -> Self {
        let mock = MockSplitQueue::new(memory, 64);
        let setup = Setup {
            size: 64,
            desc: mock.desc_table_addr(),
            avail: mock.avail_addr(),
            used: mock.used_addr(),
            base: 0,
            event_idx: false,
            enabled: true,
            kick: None,
            call: None,
            err: None,
        };
        Self {
            memory,
            ring: Ring::new(setup, memory).unwrap(),
            mock,
            seen: 0,
            rooms: 0,
        }
    }

    /// Offers a chain of parts with these lengths and flags; returns where its bytes are.
    fn offer(&mut self, parts: &[(u32, u16)]) -> GuestAddress {
        let start = GuestAddress(ROOM + u64::from(self.rooms) * 64);
        self.memory.write_slice(&[UNTOUCHED; 64], start).unwrap();
        let mut at = start.0;
        let first = self.rooms * 4;
        for (place, &(length, flags)) in (0..).zip(parts) {
            let last = usize::from(place) + 1 == parts.len();
            let flags = flags | if last { 0 } else { NEXT };
            let part = Descriptor::new(at, length, flags, first + place + 1);
            let table = self.mock.desc_table();
            table
                .store(first + place, RawDescriptor::from(part))
                .unwrap();
            at += u64::from(length);
        }
        let slot = self.mock.avail_addr().0 + 4 + 2 * u64::from(self.rooms);
        self.memory.write_obj(first, GuestAddress(slot)).unwrap();
        self.rooms += 1;
        let index = GuestAddress(self.mock.avail_addr().0 + 2);
        self.memory.write_obj(self.rooms, index).unwrap();
        start
    }

    fn rooms(&mut self, count: usize) {
        for _ in 0..count {
            self.offer(&[(8, WRITE)]);
        }
    }

    /// The events that came since the last time, as code and data.
    fn events(&mut self) -> Vec<(u32, u32)> {
        let used = self.mock.used_addr();
        let index: u16 = self.memory.read_obj(used.unchecked_add(2)).unwrap();
        let mut events = Vec::new();
        while self.seen != index {
            let entry = used.unchecked_add(4 + 8 * u64::from(self.seen));
            let (head, length): (u32, u32) = (
                self.memory.read_obj(entry).unwrap(),
                self.memory.read_obj(entry.unchecked_add(4)).unwrap(),
            );
            self.seen += 1;
            let at = GuestAddress(ROOM + u64::from(head) / 4 * 64);
            if length == 0 {
                let mut bytes = [0; 64];
                self.memory.read_slice(&mut bytes, at).unwrap();
                assert_eq!(bytes, [UNTOUCHED; 64]);
                continue;
            }
            assert_eq!(length, 8);
            events.push((
                self.memory.read_obj(at).unwrap(),
                self.memory.read_obj(at.unchecked_add(4)).unwrap(),
            ));
        }
        events
    }

    fn deliver(&mut self, events: &mut Events, now: Nanos) -> Vec<(u32, u32)> {
        events.deliver(&mut self.ring, self.memory, now).unwrap();
        self.events()
    }
}

/// Two jacks, plugged and not, two streams, two control elements, and a driver that plays.
fn events(driver: &mut Driver) -> Events {
    let mut events = Events::new([true, false], 2, 2);
    events.driver_started(true, SECOND);
    events.heard(Step::Jacks(all(2)), SECOND);
    events.heard(Step::Use, SECOND);
    assert_eq!(driver.deliver(&mut events, SECOND), []);
    assert_eq!(events.waiting.len(), 0);
    events
}

fn all(count: u32) -> Query {
    Query {
        start: 0,
        count,
        size: 24,
    }
}

fn plug(id: usize, plugged: bool) -> Notice {
    Notice::Jack { id, plugged }
}

#[test]
fn news_are_told_once_and_in_order() {
    let memory = memory();
    let mut driver = Driver::new(&memory);
    driver.rooms(8);
    let mut events = events(&mut driver);
    events.tell(Notice::Xrun { stream: 1 });
    events.tell(plug(1, true));
    events.tell(Notice::Control { id: 1, mask: 1 });
    events.tell(plug(0, false));
    let told = [(0x1101, 1), (0x1000, 1), (0x1200, 0x1_0001), (0x1001, 0)];
    assert_eq!(driver.deliver(&mut events, SECOND), told);
    assert_eq!(driver.deliver(&mut events, SECOND), []);
    assert!(!events.needs_room());
}

#[test]
fn without_room_notices_wait_and_become_one_each() {
    let memory = memory();
    let mut driver = Driver::new(&memory);
    let mut events = events(&mut driver);
    for turn in 0..1000 {
        events.tell(plug(0, turn % 2 == 0));
        events.tell(plug(1, turn % 2 == 0));
        events.tell(Notice::Xrun { stream: 0 });
        events.tell(Notice::Control {
            id: 0,
            mask: 1 << (turn % 3),
        });
        assert_eq!(driver.deliver(&mut events, SECOND), []);
        assert!(events.needs_room());
    }
    assert_eq!(events.waiting.len(), 4);
    driver.rooms(2);
    // The second jack, which waited first, is out, as the driver knows.
    assert_eq!(
        driver.deliver(&mut events, SECOND),
        [(0x1101, 0), (0x1200, 7 << 16)]
    );
    driver.rooms(4);
    assert_eq!(driver.deliver(&mut events, SECOND), [(0x1001, 0)]);
    events.tell(plug(1, true));
    assert_eq!(driver.deliver(&mut events, SECOND), [(0x1000, 1)]);
}

#[test]
fn any_number_of_changes_needs_no_more_memory() {
    let memory = memory();
    let mut driver = Driver::new(&memory);
    let mut events = events(&mut driver);
    let capacity = events.waiting.capacity();
    for turn in 0..100 {
        events.driver_started(true, SECOND);
        for id in 0..4 {
            events.tell(plug(id, turn % 2 == 0));
            events.tell(Notice::Xrun { stream: id });
            events.tell(Notice::Control { id, mask: 7 });
            events.forget_xrun(id);
            events.tell(Notice::Xrun { stream: id });
        }
        driver.deliver(&mut events, SECOND);
    }
    assert_eq!(
        (events.waiting.len(), events.waiting.capacity()),
        (6, capacity)
    );
}

#[test]
fn unfit_room_is_given_back_and_the_next_is_used() {
    let memory = memory();
    let mut driver = Driver::new(&memory);
    driver.offer(&[(7, WRITE)]);
    driver.offer(&[(16, 0)]);
    driver.offer(&[(4, WRITE), (3, WRITE), (20, 0)]);
    let place = driver.offer(&[(3, WRITE), (2, WRITE), (40, WRITE)]);
    let mut events = events(&mut driver);
    events.tell(plug(1, true));
    assert_eq!(driver.deliver(&mut events, SECOND), [(0x1000, 1)]);
    let mut behind = [0; 56];
    let at = place.unchecked_add(8);
    memory.read_slice(&mut behind, at).unwrap();
    assert_eq!(behind, [UNTOUCHED; 56]);
    // Out of the driver's memory.
    driver.offer(&[(8, WRITE)]);
    let table = driver.mock.desc_table();
    let far = Descriptor::new(0x2_0000 - 4, 8, WRITE, 0);
    table.store(16, RawDescriptor::from(far)).unwrap();
    events.tell(plug(1, false));
    assert_eq!(driver.deliver(&mut events, SECOND), []);
    assert!(events.needs_room());
    driver.rooms(1);
    assert_eq!(driver.deliver(&mut events, SECOND), [(0x1001, 1)]);
}

#[test]
fn room_behind_many_parts_of_no_bytes_is_not_looked_for() {
    let memory = memory();
    let mut driver = Driver::new(&memory);
    let mut parts = [(0, WRITE); LOOKED_AT + 1];
    parts[LOOKED_AT] = (8, WRITE);
    driver.offer(&parts);
    let mut events = events(&mut driver);
    events.tell(plug(1, true));
    assert_eq!(driver.deliver(&mut events, SECOND), []);
    assert_eq!(driver.seen, 1);
    driver.rooms(1);
    assert_eq!(driver.deliver(&mut events, SECOND), [(0x1000, 1)]);
}

#[test]
fn a_broken_ring_keeps_the_notice() {
    let memory = memory();
    let mut driver = Driver::new(&memory);
    let mut events = events(&mut driver);
    events.tell(plug(1, true));
    memory
        .write_obj(0x8000u16, driver.mock.avail_addr().unchecked_add(2))
        .unwrap();
    let result = events.deliver(&mut driver.ring, &memory, SECOND);
    assert!(result.is_err());
    assert!(events.deliver(&mut driver.ring, &memory, SECOND).is_ok());
    let mut next = Driver::new(&memory);
    next.rooms(1);
    assert_eq!(next.deliver(&mut events, SECOND), [(0x1000, 1)]);
}

#[test]
fn a_driver_that_sets_itself_up_is_not_told_too_early() {
    let memory = memory();
    let mut driver = Driver::new(&memory);
    driver.rooms(12);
    let mut events = Events::new([false], 1, 1);
    let change = |events: &mut Events, plugged| {
        events.tell(plug(0, plugged));
        events.tell(Notice::Control { id: 0, mask: 1 });
    };
    change(&mut events, true);
    assert_eq!(driver.deliver(&mut events, SECOND), []);
    assert_eq!(events.deadline(SECOND), None);
    events.driver_started(true, SECOND);
    assert_eq!(driver.deliver(&mut events, SECOND), []);
    events.heard(Step::Jacks(all(1)), SECOND);
    change(&mut events, false);
    assert_eq!(driver.deliver(&mut events, SECOND), []);
    assert!(!events.needs_room());
    // It has read the answer now, but has built no control element yet.
    events.heard(Step::Inventory, 2 * SECOND);
    assert_eq!(driver.deliver(&mut events, 2 * SECOND), [(0x1001, 0)]);
    assert_eq!(events.deadline(2 * SECOND), Some(2 * SECOND + SETTLED));
    assert_eq!(driver.deliver(&mut events, SECOND + SETTLED), []);
    let settled = 2 * SECOND + SETTLED;
    assert_eq!(driver.deliver(&mut events, settled), [(0x1200, 1 << 16)]);
    // A driver that uses the card is told at once.
    events.driver_started(true, settled);
    events.heard(Step::Inventory, settled);
    change(&mut events, true);
    assert_eq!(driver.deliver(&mut events, settled), []);
    events.heard(Step::Use, settled);
    assert_eq!(
        driver.deliver(&mut events, settled),
        [(0x1000, 0), (0x1200, 1 << 16)]
    );
}

#[test]
fn a_driver_that_wakes_up_is_told_what_changed_while_it_slept() {
    let memory = memory();
    // Nobody reads this room any more.
    let mut lost = Driver::new(&memory);
    lost.rooms(2);
    let mut events = events(&mut lost);
    events.tell(plug(1, true));
    lost.deliver(&mut events, SECOND);
    events.driver_started(true, 5 * SECOND);
    let mut driver = Driver::new(&memory);
    driver.rooms(4);
    assert_eq!(driver.deliver(&mut events, 5 * SECOND), []);
    let settled = 5 * SECOND + SETTLED;
    assert_eq!(events.deadline(5 * SECOND), Some(settled));
    // It asks nothing; what it knows already, it may hear again.
    assert_eq!(
        driver.deliver(&mut events, settled),
        [(0x1000, 0), (0x1000, 1)]
    );
    assert_eq!(events.deadline(settled), None);
}

#[test]
fn rings_that_go_on_say_nothing_again() {
    let memory = memory();
    let mut driver = Driver::new(&memory);
    driver.rooms(4);
    let mut events = events(&mut driver);
    events.driver_started(false, SECOND);
    assert_eq!(driver.deliver(&mut events, 9 * SECOND), []);
    events.tell(plug(0, false));
    assert_eq!(driver.deliver(&mut events, 9 * SECOND), [(0x1001, 0)]);
}

#[test]
fn lost_sound_of_before_a_start_is_not_told_after_it() {
    let memory = memory();
    let mut driver = Driver::new(&memory);
    let mut events = events(&mut driver);
    events.tell(Notice::Xrun { stream: 0 });
    events.tell(Notice::Xrun { stream: 1 });
    driver.deliver(&mut events, SECOND);
    events.forget_xrun(0);
    driver.rooms(4);
    assert_eq!(driver.deliver(&mut events, SECOND), [(0x1101, 1)]);
}
