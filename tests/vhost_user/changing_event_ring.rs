// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! As `changing_rings.rs`, for the event queue, whose messages are rooms that wait until there is something to
//! tell.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::card::{Card, EVENT, TX};
use crate::changer::{Changer, Dice, Offers, write_descriptor};
use crate::changing_rings::{MESSAGES, PERIODS, lengths};
use crate::commands::{COMMANDS, Client};
use crate::device::Device;
use crate::driver::{Buffer, INDIRECT, NEXT, WRITE};
use crate::events::{JACK_CONNECTED, Rooms, plug, set_up};
use crate::frontend::EVENT_IDX;
use crate::memory::{SIZE, SharedMemory};
use crate::sound::*;
use crate::wav;

/// Bytes of an event, and of the place where the rooms for them lie.
const EVENT_BYTES: u32 = 8;
const ROOMS: u64 = 1 << 16;
const SIZES: [u16; 4] = [256, 16, 256, 256];

/// An event ring whose rooms move about. It is short, so that what changes is likely to be what is read.
struct EventRing {
    desc: u64,
    rooms: u64,
    offers: Offers,
}

impl EventRing {
    fn of(card: &Card) -> Self {
        Self {
            desc: card.queues[EVENT].desc,
            // Longer than any room that begins in it.
            rooms: card.memory.allocate(2 * ROOMS, true),
            offers: Offers::of(card, EVENT),
        }
    }

    fn change(&mut self, memory: &SharedMemory, dice: &mut Dice) {
        match dice.below(4) {
            0 | 1 => self.change_descriptor(memory, dice),
            2 => self.change_head(memory, dice),
            _ => self.offers.offer(memory, dice),
        }
    }

    fn change_descriptor(&self, memory: &SharedMemory, dice: &mut Dice) {
        let flags = match dice.below(8) {
            0 => [0, WRITE, INDIRECT][dice.below(3) as usize],
            _ => [NEXT, NEXT | WRITE][dice.below(2) as usize],
        };
        let address = match dice.below(16) {
            0 => SIZE + dice.below(SIZE),
            1 => u64::MAX - dice.below(32),
            _ => self.rooms + dice.below(ROOMS),
        };
        let length = [EVENT_BYTES, EVENT_BYTES, 3, 0, 1 << 15][dice.below(5) as usize];
        let next = dice.below(self.offers.size + 2) as u16;
        let at = self.desc + 16 * dice.below(self.offers.size);
        write_descriptor(memory, at, Buffer::readable(address, length), flags, next);
    }

    /// Of a room that the device has taken, or has not.
    fn change_head(&self, memory: &SharedMemory, dice: &mut Dice) {
        let place = self.offers.avail + 4 + 2 * dice.below(self.offers.size);
        memory.store16(place, dice.below(self.offers.size) as u16);
    }
}

#[test]
fn an_event_ring_that_changes_while_jacks_are_told_disturbs_no_stream() {
    const CARD: &str = "controls = 'none'\n\
                        [[stream]]\ndirection = 'playback'\nhost = 'file'\nfile = 'out.wav'\n\
                        [[stream]]\ndirection = 'capture'\nhost = 'null'\n\
                        [[jack]]\nkind = 'headphone'\n\
                        [[jack]]\nkind = 'microphone'\n\
                        [[jack]]\nkind = 'line-out'\nplugged = false\n";
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("card.toml"), CARD).unwrap();
    let options = ["--card", "card.toml", "--command-socket", COMMANDS];
    let device = Device::start_in(folder, &options);
    let mut card = Card::attach_with(&device, SIZES, EVENT_IDX);
    let untouched = noise(1 << 16, 5);
    let canary = card.bytes(&untouched);
    card.prepare(0, &SMALL);
    let sound = noise(PERIODS * 80, 7);
    let heads = card.queue_periods(0, &sound, 80);
    card.kick(TX);
    card.must(START, 0);
    let mut ring = EventRing::of(&card);
    let offered = Arc::clone(&ring.offers.count);
    let kick = card.queues[EVENT].kick.try_clone().unwrap();
    let changer = Changer::start(&card, move |memory, dice| {
        ring.change(memory, dice);
        if dice.below(64) == 0 {
            // The counter is never full.
            let _ = kick.write(1);
        }
    });
    let mut client = Client::connect(&device);
    let mut told = 0;
    // Each is told in a room of its own, unless there is none just then.
    while told < MESSAGES || offered.load(Ordering::Relaxed) < MESSAGES {
        let plugged = told % 2 == 0;
        let command = format!("{{\"command\":\"jack\",\"jack\":\"0\",\"plugged\":{plugged}}}");
        let reply = client.say(&command);
        assert!(reply.contains(&format!("\"plugged\":{plugged}")), "{reply}");
        told += 1;
    }
    for head in heads {
        card.completion(TX).expect_played(head);
    }
    changer.stop();
    card.close(0);
    assert_eq!(wav::read(&device.path("out.wav")).1, sound);
    assert_eq!(card.memory.read(canary, untouched.len()), untouched);
    let events = lengths(&card, EVENT).filter(|&length| length == EVENT_BYTES);
    assert!(events.count() > 0, "no jack was told");
    // A driver that starts anew hears of jacks as ever.
    card.reset();
    set_up(&mut card);
    let mut rooms = Rooms::default();
    rooms.add(&mut card, 1);
    plug(&device, "line-out", true);
    assert_eq!(rooms.next(&mut card), (JACK_CONNECTED, 2));
    card.expect_service();
}
