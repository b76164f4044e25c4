// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The card under a driver made of memory, with a clock that stands until it is told the time.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;

use nix::sys::eventfd::{EfdFlags, EventFd};
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::audio::HostError;
use crate::audio::clock::{Clocked, Medium};
use crate::pcm_format;
use crate::report::{self, Reports};
use crate::ring::Setup;
use crate::stream::Params;

mod allocation;
mod real_elements;
mod status;

const SIZE: u16 = 64;
const MEMORY: u64 = 1 << 20;
const SECOND: Nanos = 1_000_000_000;
/// 48 kHz, S16, mono: 96 bytes are one millisecond.
const MILLISECOND: Nanos = 1_000_000;
const PERIOD: u32 = 960;

/// Records what is played and captures a running number.
struct Probe {
    infos: Vec<PcmInfo>,
    played: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    next: u16,
}

impl Medium for Probe {
    fn streams(&self) -> &[PcmInfo] {
        &self.infos
    }
    fn prepare(&mut self, _stream: usize, _params: &Params) -> Result<(), HostError> {
        Ok(())
    }
    fn settle(&mut self, _stream: usize) {}
    fn release(&mut self, _stream: usize) {}
    fn write(&mut self, _stream: usize, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        let mut samples = vec![0; frames as usize * 2];
        fill(&mut samples);
        self.played.lock().unwrap().extend(samples);
        frames
    }
    fn read(&mut self, _stream: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) {
        for _ in 0..frames {
            drain(&self.next.to_le_bytes());
            self.next = self.next.wrapping_add(1);
        }
    }
    fn starve(&mut self, _stream: usize, _frames: u64) {}
    fn fault(&mut self, _stream: usize) -> Option<HostError> {
        None
    }
}

/// A driver, and the card that it drives.
struct Bench {
    card: Card,
    memory: Arc<Memory>,
    file: File,
    played: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
    added: [u16; QUEUES],
    seen: [u16; QUEUES],
    calls: Vec<File>,
    time: Nanos,
    next_buffer: u64,
    event_idx: bool,
    reports: Reports,
}

fn eventfd() -> File {
    let fd = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).unwrap();
    File::from(fd.as_fd().try_clone_to_owned().unwrap())
}

fn map(file: &File) -> Arc<Memory> {
    let region = VhostUserMemoryRegion {
        guest_phys_addr: 0,
        memory_size: MEMORY,
        user_addr: 0x7000_0000,
        mmap_offset: 0,
    };
    Arc::new(Memory::new(&[region], vec![file.try_clone().unwrap()]).unwrap())
}

/// Descriptor table, available ring and used ring of a queue.
fn place(queue: usize) -> [u64; 3] {
    let start = 0x1000 + queue as u64 * 0x1000;
    [start, start + 0x400, start + 0x800]
}

impl Bench {
    fn new() -> Self {
        Self::with_event_idx(true)
    }

    fn with_event_idx(event_idx: bool) -> Self {
        let info = |direction| PcmInfo {
            device: 0,
            formats: pcm_format::S16.bit(),
            rates: pcm_format::rate_bit(48_000),
            direction,
            channels_min: 1,
            channels_max: 1,
            features: wire::PCM_EVT_XRUNS | wire::PCM_MSG_POLLING,
        };
        let played = std::sync::Arc::default();
        let infos = vec![info(Direction::Playback), info(Direction::Capture)];
        let probe = Probe {
            infos,
            played: std::sync::Arc::clone(&played),
            next: 0,
        };
        Self::on(
            Box::new(Clocked::new(probe)),
            &Description::default(),
            played,
            event_idx,
        )
    }

    /// A driver of a card on this host.
    fn on(
        host: Box<dyn Host>,
        description: &Description,
        played: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
        event_idx: bool,
    ) -> Self {
        let (sender, reports) = report::channel(64).unwrap();
        let file = tempfile::tempfile().unwrap();
        file.set_len(MEMORY).unwrap();
        let mut bench = Self {
            card: Card::new(host, description, &[], sender),
            memory: map(&file),
            file,
            played,
            added: [0; QUEUES],
            seen: [0; QUEUES],
            calls: Vec::new(),
            time: SECOND,
            next_buffer: 0x1_0000,
            event_idx,
            reports,
        };
        bench.calls = (0..QUEUES).map(|_| eventfd()).collect();
        for queue in 0..QUEUES {
            bench.start_ring(queue, 0);
        }
        bench
    }

    fn start_ring(&mut self, queue: usize, base: u16) {
        let [desc, avail, used] = place(queue).map(GuestAddress);
        let setup = Setup {
            size: SIZE,
            desc,
            avail,
            used,
            base,
            event_idx: self.event_idx,
            enabled: true,
            kick: Some(eventfd()),
            call: Some(self.calls[queue].try_clone().unwrap()),
            err: None,
        };
        self.card
            .start_ring(queue, setup, &self.memory, self.time)
            .unwrap();
        self.calls(queue);
    }

    /// Goes on to `millis` milliseconds after the first second, and wakes the card.
    fn at(&mut self, millis: u64) {
        self.time = SECOND + millis * MILLISECOND;
        self.wake();
    }

    fn wake(&mut self) {
        self.card.serve(self.time);
    }

    fn deadline(&mut self) -> Option<u64> {
        let millis = |time: Nanos| (time - SECOND).div_ceil(MILLISECOND);
        self.card.deadline(self.time).map(millis)
    }

    fn buffer(&mut self, length: usize) -> u64 {
        let at = self.next_buffer;
        self.next_buffer += (length as u64).next_multiple_of(64);
        at
    }

    /// Queues a chain of (address, length, writable); returns its first descriptor.
    fn add(&mut self, queue: usize, chain: &[(u64, u32, bool)]) -> u16 {
        let [desc, avail, _] = place(queue);
        let first = self.added[queue].wrapping_mul(4) % SIZE;
        for (index, (address, length, writable)) in (0u16..).zip(chain) {
            let last = usize::from(index) + 1 == chain.len();
            let flags = u16::from(!last) | if *writable { 2 } else { 0 };
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend(length.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend((first + index + 1).to_le_bytes());
            let at = desc + 16 * u64::from(first + index);
            self.write(at, &bytes);
        }
        let slot = self.added[queue] % SIZE;
        self.write(avail + 4 + 2 * u64::from(slot), &first.to_le_bytes());
        self.added[queue] = self.added[queue].wrapping_add(1);
        let index = self.added[queue];
        self.write(avail + 2, &index.to_le_bytes());
        first
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.memory
            .map()
            .write_slice(bytes, GuestAddress(at))
            .unwrap();
    }

    fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory
            .map()
            .read_slice(&mut bytes, GuestAddress(at))
            .unwrap();
        bytes
    }

    fn word(&self, at: u64) -> u16 {
        u16::from_le_bytes(self.read(at, 2).try_into().unwrap())
    }

    /// What has been given back since the last look: (first descriptor, length).
    fn used(&mut self, queue: usize) -> Vec<(u16, u32)> {
        let [_, avail, used] = place(queue);
        let mut back = Vec::new();
        while self.seen[queue] != self.word(used + 2) {
            let at = used + 4 + 8 * u64::from(self.seen[queue] % SIZE);
            let length = u32::from_le_bytes(self.read(at + 4, 4).try_into().unwrap());
            back.push((self.word(at), length));
            self.seen[queue] = self.seen[queue].wrapping_add(1);
        }
        // used_event: interrupt at the next one.
        self.write(
            avail + 4 + 2 * u64::from(SIZE),
            &self.seen[queue].to_le_bytes(),
        );
        back
    }

    /// How often the driver was interrupted since the last look.
    fn calls(&mut self, queue: usize) -> u64 {
        let mut count = [0; 8];
        let call = self.calls[queue].read(&mut count);
        if call.is_ok() {
            u64::from_ne_bytes(count)
        } else {
            0
        }
    }

    /// Whether the driver would kick for its next message.
    fn would_kick(&self, queue: usize) -> bool {
        let [_, _, used] = place(queue);
        if !self.event_idx {
            return self.word(used) == 0;
        }
        self.word(used + 4 + 8 * u64::from(SIZE)) == self.added[queue]
    }

    /// Sends a control request and returns the status of its response.
    fn request(&mut self, words: &[u32]) -> u32 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (request, response) = (self.buffer(bytes.len()), self.buffer(4));
        self.write(request, &bytes);
        let head = self.add(
            QUEUE_CONTROL,
            &[(request, bytes.len() as u32, false), (response, 4, true)],
        );
        self.wake();
        assert_eq!(self.used(QUEUE_CONTROL), [(head, 4)]);
        u32::from_le_bytes(self.read(response, 4).try_into().unwrap())
    }

    /// SET_PARAMS: S16, 48 kHz, mono, four periods; then PREPARE.
    fn prepare(&mut self, stream: u32) {
        let format = u32::from_le_bytes([1, 5, 7, 0]);
        assert_eq!(
            self.request(&[0x101, stream, 4 * PERIOD, PERIOD, 0, format]),
            OK
        );
        assert_eq!(self.request(&[0x102, stream]), OK);
    }

    /// Queues one period whose samples are all `value`; returns its head and its status' address.
    fn play(&mut self, value: u8) -> (u16, u64) {
        let (xfer, data, status) = (self.buffer(4), self.buffer(PERIOD as usize), self.buffer(8));
        self.write(xfer, &0u32.to_le_bytes());
        self.write(data, &[value; PERIOD as usize]);
        let chain = [(xfer, 4, false), (data, PERIOD, false), (status, 8, true)];
        (self.add(QUEUE_TX, &chain), status)
    }

    /// Queues room for one period; returns its head and where its samples go.
    fn capture(&mut self) -> (u16, u64) {
        let (xfer, data) = (self.buffer(4), self.buffer(PERIOD as usize + 8));
        self.write(xfer, &1u32.to_le_bytes());
        (
            self.add(QUEUE_RX, &[(xfer, 4, false), (data, PERIOD + 8, true)]),
            data,
        )
    }

    fn played(&self) -> Vec<u8> {
        self.played.lock().unwrap().clone()
    }
}

const OK: u32 = 0x8000;
const BAD: u32 = 0x8001;

#[test]
fn a_message_comes_back_when_it_has_been_heard_not_when_it_was_copied() {
    let mut bench = Bench::new();
    bench.prepare(0);
    let (first, _) = bench.play(1);
    let (second, _) = bench.play(2);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    assert_eq!(bench.deadline(), Some(10));
    bench.at(9);
    assert_eq!(bench.used(QUEUE_TX), []);
    assert_eq!(bench.played(), [1; 864]);
    bench.at(10);
    assert_eq!(bench.used(QUEUE_TX), [(first, 8)]);
    assert_eq!(bench.deadline(), Some(20));
    bench.at(20);
    assert_eq!(bench.used(QUEUE_TX), [(second, 8)]);
    assert_eq!(bench.played(), [[1; 960], [2; 960]].concat());
}

#[test]
fn what_the_driver_still_changes_in_a_queued_message_is_heard() {
    let mut bench = Bench::new();
    bench.prepare(0);
    bench.play(1);
    let second = bench.next_buffer + 64;
    bench.play(2);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(10);
    bench.write(second, &[9; PERIOD as usize]);
    bench.at(20);
    assert_eq!(bench.played(), [[1; 960], [9; 960]].concat());
}

#[test]
fn a_running_stream_is_looked_after_by_its_clock_until_its_driver_has_been_away_for_a_buffer() {
    let mut bench = Bench::new();
    assert!(bench.would_kick(QUEUE_TX));
    bench.prepare(0);
    bench.play(1);
    bench.play(2);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    assert!(!bench.would_kick(QUEUE_TX));
    for period in 1..100 {
        bench.at(period * 10);
        bench.play(3);
        assert!(!bench.would_kick(QUEUE_TX), "period {period}");
    }
    // The last of the sound ends at 1010; the driver is late.
    bench.at(1000);
    for late in [1010, 1013, 1016, 1049] {
        bench.at(late);
        assert!(!bench.would_kick(QUEUE_TX), "{late} ms");
        assert_eq!(bench.deadline(), Some(late + 3), "a quarter of a period");
    }
    bench.play(4);
    bench.at(1049);
    assert_eq!(
        bench.deadline(),
        Some(1059),
        "its sound begins as soon as it is seen"
    );
    bench.at(1059);
    assert_eq!(bench.used(QUEUE_TX).len(), 102);
    // The driver does not come any more: a buffer is 40 ms.
    bench.at(1098);
    assert!(!bench.would_kick(QUEUE_TX));
    bench.at(1099);
    assert!(bench.would_kick(QUEUE_TX));
    assert_eq!(bench.deadline(), None, "an open stream costs nothing");
    bench.play(5);
    bench.at(1200);
    assert!(!bench.would_kick(QUEUE_TX));
    bench.at(1210);
    assert_eq!(bench.used(QUEUE_TX).len(), 1);
}

#[test]
fn short_and_long_buffers_are_looked_after_within_bounds() {
    for (period, look, patience) in [(96, 1, 20), (96 * 80, 4, 320), (96 * 800, 4, 1000)] {
        let mut bench = Bench::new();
        let format = u32::from_le_bytes([1, 5, 7, 0]);
        let params = [0x101, 0, 4 * period, period, 0, format];
        assert_eq!(bench.request(&params), OK);
        assert_eq!(bench.request(&[0x102, 0]), OK);
        assert_eq!(bench.request(&[0x104, 0]), OK);
        assert_eq!(bench.deadline(), Some(look), "period of {period} bytes");
        bench.at(patience - 1);
        assert!(!bench.would_kick(QUEUE_TX), "period of {period} bytes");
        bench.at(patience);
        assert!(bench.would_kick(QUEUE_TX), "period of {period} bytes");
        assert_eq!(bench.deadline(), None);
    }
}

#[test]
fn a_driver_that_never_reads_what_is_asked_of_it_is_not_asked_to_kick_in_a_whole_round() {
    let mut bench = Bench::new();
    bench.prepare(0);
    bench.play(1);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    let [_, _, used] = place(QUEUE_TX);
    let asked = used + 4 + 8 * u64::from(SIZE);
    // One and a half times round the index, with the driver's rule for a kick.
    for message in 0..98_304u64 {
        bench.next_buffer = 0x1_0000;
        bench.play(1);
        let (event, new) = (bench.word(asked), bench.added[QUEUE_TX]);
        assert!(
            new.wrapping_sub(event).wrapping_sub(1) >= 1,
            "message {message}"
        );
        bench.at((message + 1) * 10);
        bench.used(QUEUE_TX);
    }
}

#[test]
fn one_interrupt_for_all_messages_of_a_wake_up() {
    let mut bench = Bench::new();
    bench.prepare(0);
    for _ in 0..8 {
        bench.play(1);
    }
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(35);
    assert_eq!((bench.calls(QUEUE_TX), bench.used(QUEUE_TX).len()), (1, 3));
    bench.at(36);
    assert_eq!(bench.calls(QUEUE_TX), 0);
}

#[test]
fn a_driver_is_not_given_back_its_whole_buffer_before_it_could_look() {
    let mut bench = Bench::new();
    for (stream, queue) in [(0, QUEUE_TX), (1, QUEUE_RX)] {
        bench.prepare(stream);
        for _ in 0..4 {
            match queue {
                QUEUE_TX => bench.play(1).0,
                _ => bench.capture().0,
            };
        }
    }
    assert_eq!(bench.request(&[0x104, 0]), OK);
    assert_eq!(bench.request(&[0x104, 1]), OK);
    // Late by more than a buffer.
    bench.at(70);
    for queue in [QUEUE_TX, QUEUE_RX] {
        assert_eq!(bench.used(queue).len(), 3);
    }
    assert_eq!(bench.deadline(), Some(72), "newer ones are looked for");
    bench.at(79);
    assert_eq!(bench.deadline(), Some(80));
    for queue in [QUEUE_TX, QUEUE_RX] {
        assert_eq!(bench.used(queue).len(), 0);
    }
    bench.at(80);
    for queue in [QUEUE_TX, QUEUE_RX] {
        assert_eq!(bench.used(queue).len(), 1);
    }
}

#[test]
fn a_message_that_is_in_time_is_given_back_at_once_also_of_two_periods() {
    let mut bench = Bench::new();
    let format = u32::from_le_bytes([1, 5, 7, 0]);
    let params = [0x101, 0, 2 * PERIOD, PERIOD, 0, format];
    assert_eq!(bench.request(&params), OK);
    assert_eq!(bench.request(&[0x102, 0]), OK);
    bench.play(1);
    bench.play(1);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    // Half a period late, and then none.
    for millis in [15, 20, 35, 40] {
        bench.at(millis);
        assert_eq!(bench.used(QUEUE_TX).len(), 1, "{millis} ms");
        bench.play(1);
    }
}

#[test]
fn a_pause_keeps_every_sample() {
    let mut bench = Bench::new();
    bench.prepare(0);
    bench.play(1);
    bench.play(2);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(15);
    assert_eq!(bench.request(&[0x105, 0]), OK);
    assert_eq!(bench.deadline(), None);
    bench.play(3);
    bench.at(500);
    assert_eq!(bench.used(QUEUE_TX).len(), 1);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(515);
    assert_eq!(bench.used(QUEUE_TX).len(), 2);
    assert_eq!(bench.played(), [[1; 960], [2; 960], [3; 960]].concat());
}

#[test]
fn an_underrun_is_skipped_and_the_clock_goes_on() {
    let mut bench = Bench::new();
    bench.prepare(0);
    bench.play(1);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(25);
    bench.play(2);
    bench.wake();
    assert_eq!(bench.deadline(), Some(35));
    bench.at(35);
    assert_eq!(bench.used(QUEUE_TX).len(), 2);
    let tally = bench.card.pcms[0].tally;
    assert_eq!((tally.frames, tally.gaps, tally.lost), (960, 1, 720));
}

#[test]
fn release_gives_everything_back_before_it_answers() {
    let mut bench = Bench::new();
    bench.prepare(0);
    let heads: Vec<_> = (0..4).map(|_| bench.play(1).0).collect();
    assert_eq!(bench.request(&[0x104, 0]), OK);
    assert_eq!(bench.request(&[0x105, 0]), OK);
    // Queued after STOP, seen only together with RELEASE.
    let (late, status) = bench.play(2);
    assert_eq!(bench.request(&[0x103, 0]), OK);
    let back = bench.used(QUEUE_TX);
    let expected: Vec<_> = heads
        .into_iter()
        .chain([late])
        .map(|head| (head, 8))
        .collect();
    assert_eq!(back, expected);
    assert_eq!(bench.read(status, 4), OK.to_le_bytes());
    // The next life of the stream starts from nothing.
    assert_eq!(bench.request(&[0x102, 0]), OK);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(100);
    assert!(bench.played().is_empty());
}

#[test]
fn capture_returns_full_periods_only() {
    let mut bench = Bench::new();
    bench.prepare(1);
    let (first, at) = bench.capture();
    bench.capture();
    assert_eq!(bench.request(&[0x104, 1]), OK);
    bench.at(9);
    assert_eq!(bench.used(QUEUE_RX), []);
    bench.at(10);
    assert_eq!(bench.used(QUEUE_RX), [(first, PERIOD + 8)]);
    let expected: Vec<u8> = (0..480u16).flat_map(u16::to_le_bytes).collect();
    assert_eq!(bench.read(at, PERIOD as usize), expected);
    assert_eq!(bench.read(at + u64::from(PERIOD), 4), OK.to_le_bytes());
    bench.at(15);
    assert_eq!(bench.request(&[0x105, 1]), OK);
    assert_eq!(bench.request(&[0x103, 1]), OK);
    let [(_, length)] = bench.used(QUEUE_RX)[..] else {
        panic!("one message is held")
    };
    assert_eq!(length, 8);
}

#[test]
fn a_message_without_a_prepared_stream_comes_back_at_once() {
    let mut bench = Bench::new();
    let (head, status) = bench.play(1);
    bench.wake();
    assert_eq!(bench.used(QUEUE_TX), [(head, 8)]);
    assert_eq!(bench.read(status, 4), 0x8003u32.to_le_bytes());
}

#[test]
fn a_status_may_lie_in_several_pieces() {
    let mut bench = Bench::new();
    let (xfer, status) = (bench.buffer(4), bench.buffer(16));
    bench.write(xfer, &77u32.to_le_bytes());
    let head = bench.add(
        QUEUE_TX,
        &[(xfer, 4, false), (status, 3, true), (status + 8, 5, true)],
    );
    bench.wake();
    assert_eq!(bench.used(QUEUE_TX), [(head, 8)]);
    assert_eq!(bench.read(status, 3), BAD.to_le_bytes()[..3]);
    assert_eq!(bench.read(status + 8, 5), [0; 5]);
}

#[test]
fn a_message_without_room_for_a_status_comes_back_empty() {
    let mut bench = Bench::new();
    bench.prepare(0);
    let data = bench.buffer(64);
    for chain in [
        vec![(data, 64, false)],
        vec![(data, 32, false), (data + 32, 7, true)],
    ] {
        let head = bench.add(QUEUE_TX, &chain);
        bench.wake();
        assert_eq!(bench.used(QUEUE_TX), [(head, 0)]);
    }
}

/// The adapter dies and another one comes: same file, mapped anew, same rings.
#[test]
fn a_new_connection_goes_on_with_the_messages_that_are_held() {
    let mut bench = Bench::new();
    bench.prepare(0);
    let heads = [bench.play(1).0, bench.play(2).0, bench.play(3).0];
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(15);
    assert_eq!(bench.used(QUEUE_TX), [(heads[0], 8)]);
    bench.memory = map(&bench.file);
    for queue in 0..QUEUES {
        let base = bench.seen[queue];
        bench.start_ring(queue, base);
    }
    bench.at(30);
    assert_eq!(bench.used(QUEUE_TX), [(heads[1], 8), (heads[2], 8)]);
    assert_eq!(bench.played(), [[1; 960], [2; 960], [3; 960]].concat());
}

/// A driver that was bound anew finds its rings at the same place, but empty.
#[test]
fn a_driver_that_starts_anew_finds_a_card_that_was_reset() {
    let mut bench = Bench::new();
    bench.prepare(0);
    bench.play(1);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(10);
    for queue in 0..QUEUES {
        let [desc, ..] = place(queue);
        bench.write(desc, &[0; 0x1000]);
        (bench.added[queue], bench.seen[queue]) = (0, 0);
    }
    for queue in 0..QUEUES {
        bench.start_ring(queue, 0);
    }
    assert_eq!(bench.deadline(), None);
    assert_eq!(bench.request(&[0x104, 0]), BAD);
    bench.prepare(0);
}

#[test]
fn a_stopped_ring_tells_where_to_go_on_and_takes_its_messages_again() {
    let mut bench = Bench::new();
    bench.prepare(0);
    let heads = [bench.play(1).0, bench.play(2).0];
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(10);
    assert_eq!(bench.used(QUEUE_TX), [(heads[0], 8)]);
    let bases: Vec<_> = (0..QUEUES)
        .map(|queue| bench.card.stop_ring(queue, bench.time).unwrap())
        .collect();
    assert_eq!(bases[QUEUE_TX], 1);
    assert_eq!(bench.deadline(), None);
    bench.at(1000);
    assert_eq!(bench.card.stop_ring(QUEUE_TX, bench.time), None);
    for (queue, base) in bases.into_iter().enumerate() {
        bench.start_ring(queue, base);
    }
    bench.wake();
    bench.at(1010);
    assert_eq!(bench.used(QUEUE_TX), [(heads[1], 8)]);
    assert_eq!(bench.played(), [[1; 960], [2; 960]].concat());
}

#[test]
fn a_long_period_is_moved_in_parts_and_is_through_in_time() {
    const BYTES: u32 = 40_000;
    let mut bench = Bench::new();
    let format = u32::from_le_bytes([1, 5, 7, 0]);
    let params = [0x101, 0, 2 * BYTES, BYTES, 0, format];
    assert_eq!(bench.request(&params), OK);
    assert_eq!(bench.request(&[0x102, 0]), OK);
    let (xfer, data, status) = (bench.buffer(4), bench.buffer(40_000), bench.buffer(8));
    bench.write(xfer, &0u32.to_le_bytes());
    bench.write(data, &[7; BYTES as usize]);
    let chain = [(xfer, 4, false), (data, BYTES, false), (status, 8, true)];
    let head = bench.add(QUEUE_TX, &chain);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    // 16384 frames, then 20000, at 48 a millisecond.
    assert_eq!(bench.deadline(), Some(342));
    bench.at(342);
    assert_eq!(bench.played().len(), 2 * 16_384);
    assert_eq!(bench.deadline(), Some(417));
    bench.at(417);
    assert_eq!(bench.used(QUEUE_TX), [(head, 8)]);
    assert_eq!(bench.played(), [7; BYTES as usize]);
}

#[test]
fn rings_that_are_being_taken_away_are_left_alone() {
    let mut bench = Bench::new();
    bench.prepare(0);
    bench.play(1);
    bench.wake();
    assert!(bench.card.stop_ring(QUEUE_CONTROL, bench.time).is_some());
    // Its guest has other use for the memory.
    let [_, avail, _] = place(QUEUE_TX);
    bench.write(avail + 2, &u16::MAX.to_le_bytes());
    bench.at(10);
    assert_eq!(bench.card.stop_ring(QUEUE_TX, bench.time), Some(0));
    let Bench { card, reports, .. } = bench;
    drop(card);
    let lost: Vec<_> = reports
        .filter(|report| matches!(report, Report::RingLost(..)))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[test]
fn a_ring_that_makes_no_sense_stops_that_ring_alone() {
    let mut bench = Bench::new();
    bench.prepare(0);
    let [_, avail, _] = place(QUEUE_RX);
    bench.write(avail + 2, &(SIZE + 1).to_le_bytes());
    bench.wake();
    let (head, _) = bench.play(1);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(10);
    assert_eq!(bench.used(QUEUE_TX), [(head, 8)]);
}

#[test]
fn messages_of_unknown_streams_and_wrong_directions_are_bad() {
    let mut bench = Bench::new();
    bench.prepare(0);
    for stream in [1u32, 2, u32::MAX] {
        let (xfer, status) = (bench.buffer(4), bench.buffer(8));
        bench.write(xfer, &stream.to_le_bytes());
        let head = bench.add(QUEUE_TX, &[(xfer, 4, false), (status, 8, true)]);
        bench.wake();
        assert_eq!(bench.used(QUEUE_TX), [(head, 8)]);
        assert_eq!(bench.read(status, 4), BAD.to_le_bytes(), "stream {stream}");
    }
}

#[test]
fn reports_never_hold_the_card_up() {
    let mut bench = Bench::new();
    bench.prepare(0);
    // More than the channel holds; nobody reads it.
    for _ in 0..200 {
        assert_eq!(bench.request(&[0x104, 0]), OK);
        assert_eq!(bench.request(&[0x105, 0]), OK);
    }
}

#[test]
fn without_event_idx_a_flag_keeps_the_driver_from_kicking() {
    let mut bench = Bench::with_event_idx(false);
    bench.prepare(0);
    bench.play(1);
    bench.play(2);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    assert!(!bench.would_kick(QUEUE_TX));
    bench.at(5);
    assert_eq!(bench.calls(QUEUE_TX), 0);
    bench.at(10);
    assert_eq!(bench.calls(QUEUE_TX), 1);
    bench.at(20);
    assert_eq!(bench.calls(QUEUE_TX), 1);
    assert!(!bench.would_kick(QUEUE_TX));
    bench.at(60);
    assert!(bench.would_kick(QUEUE_TX));
}

#[test]
fn a_chain_longer_than_any_ring_is_bad_and_costs_nobody_else() {
    let mut bench = Bench::new();
    bench.prepare(0);
    // Nobody offered indirect descriptors; 4000 of them, one byte each.
    let (table, data) = (bench.buffer(16 * 4000), bench.buffer(64));
    for index in 0..4000u16 {
        let mut bytes = data.to_le_bytes().to_vec();
        bytes.extend(4u32.to_le_bytes());
        bytes.extend(1u16.to_le_bytes());
        bytes.extend((index + 1).to_le_bytes());
        bench.write(table + 16 * u64::from(index), &bytes);
    }
    let head = bench.add(QUEUE_TX, &[(table, 16 * 4000, false)]);
    let [desc, ..] = place(QUEUE_TX);
    bench.write(desc + 16 * u64::from(head) + 12, &4u16.to_le_bytes());
    bench.wake();
    assert_eq!(bench.used(QUEUE_TX), [(head, 0)]);
    let (good, _) = bench.play(1);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(10);
    assert_eq!(bench.used(QUEUE_TX), [(good, 8)]);
}

/// Its rings are as they were, so that they are taken for those of a driver that goes on.
#[test]
fn a_card_that_was_reset_before_anything_was_asked_of_it_plays() {
    let mut bench = Bench::new();
    bench.card.reset(bench.time);
    for queue in 0..QUEUES {
        bench.start_ring(queue, 0);
    }
    bench.prepare(0);
    let (head, _) = bench.play(7);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(10);
    assert_eq!(bench.used(QUEUE_TX), [(head, 8)]);
}

#[test]
fn a_ring_that_broke_before_it_was_used_starts_anew() {
    let mut bench = Bench::new();
    let [_, avail, _] = place(QUEUE_TX);
    bench.write(avail + 2, &(SIZE + 1).to_le_bytes());
    bench.wake();
    // Its driver puts that right, and starts as it did before.
    bench.write(avail + 2, &[0, 0]);
    bench.start_ring(QUEUE_TX, 0);
    bench.prepare(0);
    let (head, _) = bench.play(7);
    assert_eq!(bench.request(&[0x104, 0]), OK);
    bench.at(10);
    assert_eq!(bench.used(QUEUE_TX), [(head, 8)]);
}

/// A chain of one table of indirect descriptors, whose first one has no bytes and is followed by itself.
fn add_circle(bench: &mut Bench, queue: usize) {
    let (at, longest) = (0x8_0000, 16 * u32::from(u16::MAX));
    let mut entry = vec![0; 16];
    entry[12] = 1; // VRING_DESC_F_NEXT
    bench.write(at, &entry);
    let head = bench.add(queue, &[(at, longest, false)]);
    let flags = place(queue)[0] + 16 * u64::from(head) + 12;
    bench.write(flags, &4u16.to_le_bytes()); // VRING_DESC_F_INDIRECT
}

#[test]
fn a_flood_of_descriptors_waits_for_other_wake_ups() {
    for queue in [QUEUE_TX, QUEUE_RX] {
        let mut bench = Bench::new();
        (0..64).for_each(|_| add_circle(&mut bench, queue));
        for left in [48, 32, 16, 0] {
            assert_eq!(bench.card.serve(bench.time), left > 0);
            assert_eq!(bench.used(queue).len(), 16);
        }
    }
}

#[test]
fn a_flood_of_descriptors_in_one_queue_keeps_no_other_waiting() {
    let mut bench = Bench::new();
    bench.prepare(1);
    let (head, _) = bench.capture();
    (0..64).for_each(|_| add_circle(&mut bench, QUEUE_TX));
    assert_eq!(bench.request(&[0x104, 1]), OK);
    bench.at(10);
    assert_eq!(bench.used(QUEUE_RX), [(head, PERIOD + 8)]);
}

#[test]
fn a_request_that_goes_in_circles_comes_back_empty() {
    let mut bench = Bench::new();
    (0..16).for_each(|_| add_circle(&mut bench, QUEUE_CONTROL));
    bench.wake();
    let back = bench.used(QUEUE_CONTROL);
    assert_eq!(back.len(), 16);
    assert!(back.iter().all(|(_, length)| *length == 0));
}
