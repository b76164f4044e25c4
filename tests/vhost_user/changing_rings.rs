// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Rings that change while the device reads them: what was checked is not what is there when it is
//! used. Another stream's sound goes on bit for bit, and memory that nobody names stays as it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::card::{Card, RX, TX};
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
