// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Rings that change while the device reads them: what was checked is not what is there when it is
//! used. Another stream's sound goes on bit for bit, and memory that nobody names stays as it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vmm_sys_util::eventfd::EventFd;

use crate::card::{CONTROL, Card, Completion, RX, STATUS_BYTES, TX};
use crate::changer::{Changer, Dice, Offers, write_descriptor};
use crate::device::Device;
use crate::driver::{Buffer, INDIRECT, NEXT, WRITE};
use crate::memory::{SIZE, SharedMemory};
use crate::sound::*;
use crate::wav;

pub const PERIODS: usize = 60;
const ARENA: u64 = 1 << 20;
/// Messages of a ring at least; all but half of a ring of them have come back.
pub const MESSAGES: u64 = 2000;
/// And those of them that are heard.
const HEARD: u64 = 200;

/// A capture ring whose driver is out of its mind. The arena begins with the number of its stream.
struct CaptureRing {
    desc: u64,
    arena: u64,
    offers: Offers,
    kick: EventFd,
    /// Things are done that a ring does not survive.
    hopeless: bool,
}

impl CaptureRing {
    fn of(card: &Card, arena: u64, hopeless: bool) -> Self {
        let ring = &card.queues[RX];
        Self {
            desc: ring.desc,
            arena,
            offers: Offers::of(card, RX),
            kick: ring.kick.try_clone().unwrap(),
            hopeless,
        }
    }

    fn change(&mut self, memory: &SharedMemory, dice: &mut Dice) {
        match dice.below(5) {
            0 | 1 => self.change_descriptor(memory, dice),
            2 => self.change_head(memory, dice),
            3 => self.offers.offer(memory, dice),
            _ => self.change_arena(memory, dice),
        }
        if self.hopeless && dice.below(1 << 10) == 0 {
            let far = self.offers.size + 1 + dice.below(1 << 15);
            let index = self.offers.index.wrapping_add(far as u16);
            memory.store16(self.offers.avail + 2, index);
        }
        if dice.below(64) == 0 {
            // The counter is never full.
            let _ = self.kick.write(1);
        }
    }

    fn change_descriptor(&self, memory: &SharedMemory, dice: &mut Dice) {
        let at = self.desc + 16 * dice.below(self.offers.size);
        let mut flags = [0, NEXT, WRITE, NEXT | WRITE][dice.below(4) as usize];
        flags |= if dice.below(16) == 0 { INDIRECT } else { 0 };
        let address = match dice.below(16) {
            0 => SIZE + dice.below(SIZE),
            1 => u64::MAX - dice.below(32),
            2..8 => self.arena,
            _ => self.arena + dice.below(ARENA / 2),
        };
        // Room for many samples would take the stream its time.
        let longest = if flags & WRITE == 0 { 1 << 16 } else { 32 };
        let buffer = Buffer::readable(address, dice.below(longest) as u32);
        let next = dice.below(self.offers.size + 2) as u16;
        write_descriptor(memory, at, buffer, flags, next);
    }

    /// Of a message that the device has taken, or has not. One outside of the table does not come back.
    fn change_head(&self, memory: &SharedMemory, dice: &mut Dice) {
        let heads = self.offers.size + if self.hopeless { 8 } else { 0 };
        let place = self.offers.avail + 4 + 2 * dice.below(self.offers.size);
        memory.store16(place, dice.below(heads) as u16);
    }

    /// The number of the stream, tables of descriptors, and what becomes samples.
    fn change_arena(&self, memory: &SharedMemory, dice: &mut Dice) {
        let place = [0, 1, 1, 1][dice.below(4) as usize] * dice.below(ARENA / 8 - 1) * 8;
        let word = [1, 1, dice.below(4), dice.roll()][dice.below(4) as usize];
        memory.write(self.arena + place, &word.to_le_bytes());
    }
}

/// Plays all of a stream whatever other messages come back meanwhile, of which `others` takes care; returns
/// the sound.
fn play_beside(
    card: &mut Card,
    stream: u32,
    mut others: impl FnMut(&mut Card, Completion),
) -> Vec<u8> {
    let sound = noise(PERIODS * 80, 7);
    let mut heads = card
        .queue_periods(stream, &sound, 80)
        .into_iter()
        .peekable();
    card.kick(TX);
    while let Some(&head) = heads.peek() {
        let completion = card.completion(TX);
        if completion.head == head {
            completion.expect_played(head);
            heads.next();
        } else {
            others(card, completion);
        }
    }
    sound
}

/// What the entries of a used ring say of the bytes that were written.
pub fn lengths(card: &Card, queue: usize) -> impl Iterator<Item = u32> {
    let ring = &card.queues[queue];
    let entries = card.memory.read(ring.used + 4, 8 * usize::from(ring.size));
    let length = |entry: &[u8]| u32::from_le_bytes(entry[4..].try_into().unwrap());
    entries
        .chunks(8)
        .map(length)
        .collect::<Vec<_>>()
        .into_iter()
}

#[test]
fn a_capture_ring_that_changes_while_it_is_read_disturbs_no_playback() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.wav");
    wav::write(&input, wav::spec(8000, 1, 8), &noise(16_000, 3));
    let files = ["--playback-file", "out.wav", "--capture-file", "in.wav"];
    let device = Device::start_in(folder, &[&["--host", "file"], &files[..]].concat());
    let mut card = Card::attach(&device);
    let untouched = noise(1 << 16, 5);
    let canary = card.bytes(&untouched);
    let arena = card.memory.allocate(ARENA, true);
    card.memory.write(arena, &1u32.to_le_bytes());
    card.prepare(1, &SMALL);
    card.must(START, 1);
    // All of it is served, as long as that can be; then the ring is given up.
    let mut sound = Vec::new();
    for hopeless in [false, true] {
        card.prepare(0, &SMALL);
        card.must(START, 0);
        let mut ring = CaptureRing::of(&card, arena, hopeless);
        let offered = Arc::clone(&ring.offers.count);
        let changer = Changer::start(&card, move |memory, dice| ring.change(memory, dice));
        sound.extend(play_beside(&mut card, 0, |_, other| panic!("{other:?}")));
        let given_up = || device.log().contains("queue 3 is not served any more");
        if hopeless {
            card.wait_until("the ring is given up", |_| given_up());
        } else {
            card.wait_until("many messages", |_| {
                offered.load(Ordering::Relaxed) >= MESSAGES
            });
            card.wait_until("one brings sound", |card| {
                lengths(card, RX).any(|length| length > STATUS_BYTES)
            });
            assert!(!given_up(), "{}", device.log());
        }
        changer.stop();
        card.close(0);
        assert_eq!(wav::read(&device.path("out.wav")).1, sound);
    }
    assert_eq!(card.memory.read(canary, untouched.len()), untouched);
    card.reset();
    card.expect_service();
}

/// Messages of stream 1, each of which is offered again when it has come back.
struct Forgeries {
    desc: u64,
    /// Header, samples and status of each: descriptors, and where they lie.
    chains: Vec<([u16; 3], [u64; 3])>,
}

impl Forgeries {
    /// No word of these is the number of stream 0.
    fn queue(card: &mut Card) -> Self {
        let heads = card.queue_periods(1, &[0x55; 20 * 80], 80);
        let desc = card.queues[TX].desc;
        let at = |index: u16| desc + 16 * u64::from(index);
        let next = |index: u16| card.memory.load16(at(index) + 14);
        let address = |index: u16| {
            let bytes = card.memory.read(at(index), 8);
            u64::from_le_bytes(bytes.try_into().unwrap())
        };
        let chain = |head: u16| {
            let chain = [head, next(head), next(next(head))];
            (chain, chain.map(address))
        };
        let chains = heads.into_iter().map(chain).collect();
        Self { desc, chains }
    }

    fn write(&self, memory: &SharedMemory, index: u16, buffer: Buffer, flags: u16, next: u16) {
        let at = self.desc + 16 * u64::from(index);
        write_descriptor(memory, at, buffer, flags, next);
    }

    fn change(&self, memory: &SharedMemory, dice: &mut Dice) {
        let (chain, place) = self.chains[dice.below(self.chains.len() as u64) as usize];
        match dice.below(8) {
            0 => {
                let stream = [1u32, 7, u32::MAX][dice.below(3) as usize];
                memory.write(place[0], &stream.to_le_bytes());
            }
            1 => memory.write(place[1] + dice.below(80), &[1 + dice.below(255) as u8]),
            2..5 => self.mend(memory, dice, chain, place),
            _ => {
                let part = dice.below(3) as usize;
                let choices = [place[part], SIZE + dice.below(SIZE), u64::MAX - 3];
                let there = choices[dice.below(3) as usize];
                let length = [4, 8, 80][dice.below(3) as usize].min([4, 80, 8][part]);
                let next = chain[dice.below(3) as usize];
                let flags = [NEXT, NEXT | WRITE, WRITE, 0][dice.below(4) as usize];
                let buffer = Buffer::readable(there, length);
                self.write(memory, chain[part], buffer, flags, next);
            }
        }
    }

    /// A message as it should be, of few samples.
    fn mend(&self, memory: &SharedMemory, dice: &mut Dice, chain: [u16; 3], place: [u64; 3]) {
        let lengths = [4, 1 + dice.below(16) as u32, STATUS_BYTES];
        for (part, flags) in [NEXT, NEXT, WRITE].into_iter().enumerate() {
            let buffer = Buffer::readable(place[part], lengths[part]);
            self.write(memory, chain[part], buffer, flags, chain[(part + 1) % 3]);
        }
        memory.write(place[0], &1u32.to_le_bytes());
    }

    /// The device may have written where it was told to.
    fn queue_again(&self, card: &mut Card, head: u16) {
        let mut chains = self.chains.iter();
        let &(chain, place) = chains.find(|(chain, _)| chain[0] == head).unwrap();
        card.memory.write(place[0], &1u32.to_le_bytes());
        card.queue_playback_again(&chain, place[2]);
        card.kick(TX);
    }
}

#[test]
fn messages_that_change_while_they_are_read_disturb_no_other_stream_of_their_ring() {
    let files = ["--playback-file", "out.wav", "--playback-file", "other.wav"];
    let device = Device::start(&[&["--host", "file"], &files[..]].concat());
    let mut card = Card::attach(&device);
    let untouched = noise(1 << 16, 5);
    let canary = card.bytes(&untouched);
    for stream in [0, 1] {
        card.prepare(stream, &SMALL);
    }
    let forgeries = Arc::new(Forgeries::queue(&mut card));
    let changed = Arc::clone(&forgeries);
    let changer = Changer::start(&card, move |memory, dice| changed.change(memory, dice));
    for stream in [0, 1] {
        card.must(START, stream);
    }
    let (mut back, mut heard) = (0, 0);
    let mut again = |card: &mut Card, completion: Completion| {
        back += 1;
        heard += u64::from(completion.status == OK);
        forgeries.queue_again(card, completion.head);
        back >= 2 * MESSAGES && heard >= HEARD
    };
    let sound = play_beside(&mut card, 0, |card, completion| {
        again(card, completion);
    });
    loop {
        let completion = card.completion(TX);
        if again(&mut card, completion) {
            break;
        }
    }
    changer.stop();
    card.close(0);
    assert_eq!(wav::read(&device.path("out.wav")).1, sound);
    assert_eq!(card.memory.read(canary, untouched.len()), untouched);
    assert_eq!(card.pcm_infos(2).len(), 2);
    card.close(1);
}

/// A request lies at a multiple of that, and so does the room for an answer.
const SLOT: u64 = 32;
const SLOTS: u64 = 512;

/// A control ring, and requests, of which none is about stream 0: only stream 1's driver is out of its mind.
struct ControlRing {
    desc: u64,
    requests: u64,
    answers: u64,
    offers: Offers,
}

impl ControlRing {
    fn of(card: &Card) -> Self {
        let ring = &card.queues[CONTROL];
        let requests = card.memory.allocate(SLOT * SLOTS, true);
        for slot in 0..SLOTS {
            let at = requests + SLOT * slot;
            card.memory.write(at, &words(&[PREPARE, 1]));
        }
        Self {
            desc: ring.desc,
            requests,
            // Longer than any room for an answer that begins in it.
            answers: card.memory.allocate(2 * SLOT * SLOTS, true),
            offers: Offers::of(card, CONTROL),
        }
    }

    fn change(&mut self, memory: &SharedMemory, dice: &mut Dice) {
        match dice.below(4) {
            0 => self.change_request(memory, dice),
            1 | 2 => self.change_descriptor(memory, dice),
            _ => self.offers.offer(memory, dice),
        }
    }

    /// One word of a request: code, stream, and what may follow.
    fn change_request(&self, memory: &SharedMemory, dice: &mut Dice) {
        let codes = [
            SET_PARAMS, PREPARE, START, STOP, RELEASE, PCM_INFO, CHMAP_INFO, JACK_INFO,
        ];
        let place = dice.below(6);
        let choices = match place {
            0 => &codes[..],
            1 => &[1, 1, 7, u32::MAX],
            2 => &[320, 1, 0, u32::MAX],
            3 => &[80, PCM_INFO_BYTES, 0, u32::MAX],
            4 => &[0, 0, EVT_XRUNS, u32::MAX],
            _ => &[0x0001_0401, 0x0001_0501, 0, u32::MAX],
        };
        let word = choices[dice.below(choices.len() as u64) as usize];
        let at = self.requests + SLOT * dice.below(SLOTS) + 4 * place;
        memory.write(at, &word.to_le_bytes());
    }

    /// Every third descriptor is about answers, and the device may write there; what it writes is no
    /// request.
    fn change_descriptor(&self, memory: &SharedMemory, dice: &mut Dice) {
        let index = dice.below(self.offers.size);
        let pick = dice.below(8) as usize;
        let (start, length, flags) = if index % 3 == 2 {
            let flags = [WRITE, WRITE, WRITE, WRITE | NEXT, WRITE | NEXT, NEXT, 0, 0][pick];
            (self.answers, [4, 36, 68, 0][dice.below(4) as usize], flags)
        } else {
            let flags = [NEXT, NEXT, NEXT, NEXT, NEXT, 0, 0, INDIRECT][pick];
            (
                self.requests,
                [8, 16, 24, 32][dice.below(4) as usize],
                flags,
            )
        };
        let address = match dice.below(16) {
            0 => SIZE + dice.below(SIZE),
            1 => u64::MAX - dice.below(32),
            _ => start + SLOT * dice.below(SLOTS),
        };
        let next = match dice.below(4) {
            0 => dice.below(self.offers.size + 2),
            _ => 3 * dice.below(self.offers.size / 3) + 2,
        };
        let at = self.desc + 16 * index;
        write_descriptor(
            memory,
            at,
            Buffer::readable(address, length),
            flags,
            next as u16,
        );
    }
}

#[test]
fn requests_that_change_while_they_are_read_come_back_and_disturb_no_other_stream() {
    let files = ["--playback-file", "out.wav", "--playback-file", "other.wav"];
    let device = Device::start(&[&["--host", "file"], &files[..]].concat());
    let mut card = Card::attach(&device);
    let untouched = noise(1 << 16, 5);
    let canary = card.bytes(&untouched);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    let mut ring = ControlRing::of(&card);
    let (avail, used) = (ring.offers.avail, ring.offers.used);
    let offered = Arc::clone(&ring.offers.count);
    let kick = card.queues[CONTROL].kick.try_clone().unwrap();
    let changer = Changer::start(&card, move |memory, dice| {
        ring.change(memory, dice);
        if dice.below(64) == 0 {
            // The counter is never full.
            let _ = kick.write(1);
        }
    });
    let sound = play_beside(&mut card, 0, |_, _| {});
    card.wait_until("many messages", |_| {
        offered.load(Ordering::Relaxed) >= MESSAGES
    });
    changer.stop();
    card.queues[CONTROL].kick_anyway();
    let index = |card: &Card, ring: u64| card.memory.load16(ring + 2);
    card.wait_until("all messages come back", |card| {
        index(card, used) == index(card, avail)
    });
    assert!(
        lengths(&card, CONTROL).max() >= Some(4),
        "no request has got an answer"
    );
    card.reset();
    assert_eq!(card.pcm_infos(2).len(), 2);
    assert_eq!(wav::read(&device.path("out.wav")).1, sound);
    assert_eq!(card.memory.read(canary, untouched.len()), untouched);
    card.play(1, &SMALL, &sound[..160]);
}
