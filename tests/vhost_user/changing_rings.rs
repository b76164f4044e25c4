// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Rings that change while the device reads them: what was checked is not what is there when it is
//! used. Another stream's sound goes on bit for bit, and memory that nobody names stays as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::card::{CONTROL, Card, RX, TX};
use crate::device::Device;
use crate::driver::{Buffer, INDIRECT, NEXT, WRITE};
use crate::memory::{SIZE, SharedMemory};
use crate::sound::*;
use crate::wav;

/// Changes at least; then on until the sound is over, but not for ever.
const CHANGES: u64 = 200_000;
const MOST_CHANGES: u64 = 50_000_000;
const PERIODS: usize = 60;
const ARENA: u64 = 1 << 20;

/// Numbers that look like none in particular.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }
}

/// Changes things in another thread, until the sound is over.
struct Changer {
    over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Changer {
    fn start(
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

    fn stop(self) {
        self.over.store(true, Ordering::Relaxed);
        assert!(self.thread.join().unwrap() >= CHANGES);
    }
}

fn write_descriptor(memory: &SharedMemory, at: u64, buffer: Buffer, flags: u16, next: u16) {
    // In two writes, as a driver's compiler might.
    let address = buffer.address.to_le_bytes();
    let mut rest = buffer.length.to_le_bytes().to_vec();
    rest.extend(flags.to_le_bytes());
    rest.extend(next.to_le_bytes());
    memory.write(at, &address);
    memory.write(at + 8, &rest);
}

/// A place in the arena, or one that does not exist.
fn somewhere(dice: &mut Dice, arena: u64) -> Buffer {
    let address = match dice.below(8) {
        0 => SIZE + dice.below(SIZE),
        1 => u64::MAX - dice.below(32),
        _ => arena + dice.below(ARENA / 2),
    };
    Buffer::readable(address, dice.below(1 << 16) as u32)
}

/// Everything that a capture ring is made of.
fn change_ring(
    desc: u64,
    avail: u64,
    size: u64,
    arena: u64,
    memory: &SharedMemory,
    dice: &mut Dice,
) {
    match dice.below(5) {
        0 | 1 => {
            let at = desc + 16 * dice.below(size);
            let mut flags = if dice.below(4) == 0 { 0 } else { NEXT };
            flags |= if dice.below(2) == 0 { WRITE } else { 0 };
            flags |= if dice.below(16) == 0 { INDIRECT } else { 0 };
            let next = dice.below(size + 2) as u16;
            write_descriptor(memory, at, somewhere(dice, arena), flags, next);
        }
        2 => memory.store16(
            avail + 4 + 2 * dice.below(size),
            dice.below(size + 8) as u16,
        ),
        3 => {
            // Mostly what the device may find, now and then what breaks the ring.
            let far = if dice.below(50_000) == 0 { 1 << 16 } else { 8 };
            let index = u64::from(memory.load16(avail + 2)) + dice.below(far);
            memory.store16(avail + 2, index as u16);
        }
        _ => {
            let at = arena + dice.below(ARENA / 8 - 1) * 8;
            let word = [1, dice.below(4), dice.roll()][dice.below(3) as usize];
            memory.write(at, &word.to_le_bytes());
        }
    }
}

/// Plays all of a stream whatever other messages come back meanwhile; returns the sound.
fn play_beside(card: &mut Card, stream: u32) -> Vec<u8> {
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
        }
    }
    sound
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
    for stream in [0, 1] {
        card.prepare(stream, &SMALL);
        card.must(START, stream);
    }
    card.memory.write(arena, &1u32.to_le_bytes());
    let ring = &card.queues[RX];
    let (desc, avail, size) = (ring.desc, ring.avail, u64::from(ring.size));
    let kick = ring.kick.try_clone().unwrap();
    let changer = Changer::start(&card, move |memory, dice| {
        change_ring(desc, avail, size, arena, memory, dice);
        if dice.below(64) == 0 {
            // The counter is never full.
            let _ = kick.write(1);
        }
    });
    let sound = play_beside(&mut card, 0);
    changer.stop();
    card.close(0);
    assert_eq!(wav::read(&device.path("out.wav")).1, sound);
    assert_eq!(card.memory.read(canary, untouched.len()), untouched);
    card.reset();
    card.expect_service();
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
    // No word of these is a stream's number.
    let others = card.queue_periods(1, &[0x55; 20 * 80], 80);
    let desc = card.queues[TX].desc;
    let field = |at: u64| card.memory.load16(at);
    let chain = |head: u16| {
        let payload = field(desc + 16 * u64::from(head) + 14);
        [head, payload, field(desc + 16 * u64::from(payload) + 14)]
    };
    let chains: Vec<_> = others.into_iter().map(chain).collect();
    let address = |index: u16| {
        let bytes = card.memory.read(desc + 16 * u64::from(index), 8);
        u64::from_le_bytes(bytes.try_into().unwrap())
    };
    let places: Vec<_> = chains.iter().map(|chain| chain.map(address)).collect();
    let changer = Changer::start(&card, move |memory, dice| {
        let which = dice.below(chains.len() as u64) as usize;
        let part = dice.below(3) as usize;
        let (index, place) = (chains[which][part], places[which]);
        let there = [place[part], SIZE + dice.below(SIZE), u64::MAX - 3][dice.below(3) as usize];
        match dice.below(4) {
            0 => {
                let stream = [1u32, 7, u32::MAX][dice.below(3) as usize];
                memory.write(place[0], &stream.to_le_bytes());
            }
            1 => memory.write(place[1] + dice.below(80), &[1 + dice.below(255) as u8]),
            _ => {
                let length = [4, 8, 80][dice.below(3) as usize].min([4, 80, 8][part]);
                let next = chains[which][dice.below(3) as usize];
                let flags = [NEXT, NEXT | WRITE, WRITE, 0][dice.below(4) as usize];
                let at = desc + 16 * u64::from(index);
                write_descriptor(memory, at, Buffer::readable(there, length), flags, next);
            }
        }
    });
    for stream in [0, 1] {
        card.must(START, stream);
    }
    let sound = play_beside(&mut card, 0);
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
/// Messages at least.
const MESSAGES: u64 = 2000;

/// A control ring, and requests, of which none is about stream 0: only stream 1's driver is out of its mind.
struct ControlRing {
    desc: u64,
    avail: u64,
    used: u64,
    size: u64,
    requests: u64,
    answers: u64,
    index: u16,
    offered: Arc<AtomicU64>,
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
            avail: ring.avail,
            used: ring.used,
            size: ring.size.into(),
            requests,
            // Longer than any room for an answer that begins in it.
            answers: card.memory.allocate(2 * SLOT * SLOTS, true),
            index: ring.avail_index,
            offered: Arc::default(),
        }
    }

    fn change(&mut self, memory: &SharedMemory, dice: &mut Dice) {
        match dice.below(4) {
            0 => self.change_request(memory, dice),
            1 | 2 => self.change_descriptor(memory, dice),
            _ => self.offer(memory, dice),
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
        let index = dice.below(self.size);
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
            0 => dice.below(self.size + 2),
            _ => 3 * dice.below(self.size / 3) + 2,
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

    /// Any head, while the device is not too far behind.
    fn offer(&mut self, memory: &SharedMemory, dice: &mut Dice) {
        let behind = self.index.wrapping_sub(memory.load16(self.used + 2));
        if u64::from(behind) >= self.size / 2 {
            return;
        }
        let place = u64::from(self.index) % self.size;
        memory.store16(self.avail + 4 + 2 * place, dice.below(self.size) as u16);
        self.index = self.index.wrapping_add(1);
        memory.store16(self.avail + 2, self.index);
        self.offered.fetch_add(1, Ordering::Relaxed);
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
    let (avail, used, size) = (ring.avail, ring.used, ring.size);
    let offered = Arc::clone(&ring.offered);
    let kick = card.queues[CONTROL].kick.try_clone().unwrap();
    let changer = Changer::start(&card, move |memory, dice| {
        ring.change(memory, dice);
        if dice.below(64) == 0 {
            // The counter is never full.
            let _ = kick.write(1);
        }
    });
    let sound = play_beside(&mut card, 0);
    card.wait_until("many messages", |_| {
        offered.load(Ordering::Relaxed) >= MESSAGES
    });
    changer.stop();
    card.queues[CONTROL].kick_anyway();
    let index = |card: &Card, ring: u64| card.memory.load16(ring + 2);
    card.wait_until("all messages come back", |card| {
        index(card, used) == index(card, avail)
    });
    let entries = card.memory.read(used + 4, 8 * size as usize);
    let lengths = entries.chunks(8).map(|entry| entry[4]);
    assert!(lengths.max() >= Some(4), "no request has got an answer");
    card.reset();
    assert_eq!(card.pcm_infos(2).len(), 2);
    assert_eq!(wav::read(&device.path("out.wav")).1, sound);
    assert_eq!(card.memory.read(canary, untouched.len()), untouched);
    card.play(1, &SMALL, &sound[..160]);
}
