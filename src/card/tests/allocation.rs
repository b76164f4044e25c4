// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Nothing allocates or frees on the audio thread while sound runs: the whole wake-up is counted,
//! with hosts as a card has them, all of its streams running, pausing and running dry.

use std::sync::Arc;

use allocation_counter::AllocationInfo;
#[cfg(feature = "alsa")]
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::*;
use crate::description::{Description, Stream, StreamHost, usual_controls};
use crate::device;
use crate::run::hosts;

/// Room for a message: header, samples and status.
const ROOM: u64 = 0x1000;
/// Bytes of a control element's value.
const VALUE: usize = 512;
/// Messages of a queue at once: each has four descriptors.
const MESSAGES: u64 = SIZE as u64 / 4;

/// A driver that only uses what it was given at the start, and a wake-up that is counted.
struct Audit {
    bench: Bench,
    streams: u32,
    wake: EventFd,
    sent: [u64; QUEUES],
}

impl Audit {
    fn new(bench: Bench) -> Self {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        let (streams, sent) = (bench.card.pcms.len() as u32, [0; QUEUES]);
        Self {
            bench,
            streams,
            wake,
            sent,
        }
    }

    /// What the audio thread does from one sleep to the next, and the sleep.
    fn wake_up(&mut self) -> AllocationInfo {
        let (card, now) = (&mut self.bench.card, self.bench.time);
        let wake = &self.wake;
        allocation_counter::measure(|| {
            card.serve(now);
            card.deadline(now);
            device::sleep(card, wake, Some(now), now);
        })
    }

    fn wake_up_in_silence(&mut self, when: &str) {
        let found = self.wake_up();
        let kept = (found.count_total, found.count_current);
        assert_eq!(kept, (0, 0), "{when}: {found:?}");
        for queue in 0..QUEUES {
            self.bench.used(queue);
            self.bench.calls(queue);
        }
    }

    /// The answer to somebody who asks how the card is; `first` after a long time.
    fn describe_in_silence(&mut self, first: bool) {
        let mut status = CardStatus::new(self.streams as usize, 0);
        let (card, now) = (&mut self.bench.card, self.bench.time);
        let found = allocation_counter::measure(|| card.describe(&mut status, now));
        assert_eq!((found.count_total, found.count_current), (0, 0));
        let measured = status.streams.iter().all(|stream| stream.peaks.is_some());
        assert_eq!(measured, !first);
    }

    fn room(&mut self, queue: usize) -> u64 {
        let place = (queue as u64 * MESSAGES + self.sent[queue] % MESSAGES) * ROOM;
        self.sent[queue] += 1;
        0x1_0000 + place
    }

    /// Queues a period of a stream; those with odd ids capture.
    fn queue_period(&mut self, stream: u32) {
        let capture = stream % 2 == 1;
        let queue = if capture { QUEUE_RX } else { QUEUE_TX };
        let at = self.room(queue);
        let (data, status) = (at + 16, at + 16 + u64::from(PERIOD));
        self.bench.write(at, &stream.to_le_bytes());
        let parts = [(at, 4, false), (data, PERIOD, capture), (status, 8, true)];
        self.bench.add(queue, &parts);
    }

    /// A request that is answered in a counted wake-up.
    fn ask(&mut self, words: &[u32], room: u32) {
        let at = self.room(QUEUE_CONTROL);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.bench.write(at, &bytes);
        let answer = at + ROOM / 2;
        let parts = [(at, bytes.len() as u32, false), (answer, room, true)];
        self.bench.add(QUEUE_CONTROL, &parts);
        self.wake_up_in_silence(&format!("request {words:x?}"));
        let status = self.bench.read(answer, 4);
        assert_eq!(status, OK.to_le_bytes(), "request {words:x?}");
    }

    /// A thread of the host's own has done what was asked of it.
    #[cfg(feature = "alsa")]
    fn await_host(&mut self) {
        let mut alarm = None;
        self.bench.card.host.wakers(&mut |fd, _| {
            alarm.get_or_insert(fd.try_clone_to_owned().unwrap());
        });
        let alarm = alarm.unwrap();
        let mut polled = [PollFd::new(alarm.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut polled, PollTimeout::MAX), Ok(1));
        self.bench.wake();
        assert!(self.bench.card.pcms.iter().all(|pcm| !pcm.away));
    }

    /// All streams from START to the end, paused, late and asked for.
    fn run_in_silence(&mut self) {
        for stream in 0..self.streams {
            self.queue_period(stream);
            self.queue_period(stream);
        }
        for stream in 0..self.streams {
            assert_eq!(self.bench.request(&[0x104, stream]), OK);
        }
        for period in 0..400u64 {
            // Stream 0 is paused for a while; all drivers are late now and then, once for long.
            let paused = (100..120).contains(&period);
            if period == 100 || period == 120 {
                let code = if paused { 0x105 } else { 0x104 };
                assert_eq!(self.bench.request(&[code, 0]), OK);
            }
            let late = period % 50 == 49 || (200..230).contains(&period);
            for stream in 0..self.streams {
                let silent = late || (paused && stream == 0);
                if !silent {
                    self.queue_period(stream);
                }
            }
            self.bench.time += 10 * MILLISECOND;
            self.wake_up_in_silence(&format!("period {period}"));
            if (50..150).contains(&period) {
                // Somebody asks how it is, so that it is measured too.
                self.describe_in_silence(period == 50);
            }
            if period % 7 == 0 {
                self.ask(&[0x100, 0, self.streams, 32], 4 + self.streams * 32);
                // The volume, read, and written with a new value.
                self.ask(&[0x302, 0], 4 + VALUE as u32);
                let mut write = vec![0; 2 + VALUE / 4];
                write[..3].copy_from_slice(&[0x303, 0, (period % 3) as u32 * 10]);
                self.ask(&write, 4);
            }
        }
        for stream in 0..self.streams {
            assert_eq!(self.bench.request(&[0x105, stream]), OK);
            assert_eq!(self.bench.request(&[0x101 + 2, stream]), OK);
        }
    }
}

/// A card with a pair of streams on each of these hosts.
fn bench_of(pairs: impl IntoIterator<Item = [StreamHost; 2]>) -> Bench {
    let mut streams = Vec::new();
    for (device, [playback, capture]) in (0..).zip(pairs) {
        streams.push(Stream::new(Direction::Playback, device, playback));
        streams.push(Stream::new(Direction::Capture, device, capture));
    }
    let controls = usual_controls(&streams);
    let description = Description {
        streams,
        controls,
        ..Description::default()
    };
    let host = hosts::open(&description).unwrap();
    let mut bench = Bench::on(Box::new(host), &description, Arc::default(), true);
    let features = bench.card.features();
    bench.card.accept_features(features);
    bench
}

/// All the hosts that need nobody else.
fn hosts_alone(folder: &std::path::Path) -> [[StreamHost; 2]; 3] {
    let (played, captured) = (folder.join("out.wav"), folder.join("in.wav"));
    let layout = hound::WavSpec {
        channels: 1,
        sample_rate: 48_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(&captured, layout).unwrap();
    (0..4800i16).for_each(|sample| file.write_sample(sample).unwrap());
    file.finalize().unwrap();
    [
        [StreamHost::Null, StreamHost::Null],
        [StreamHost::Loop("c".into()), StreamHost::Loop("c".into())],
        [StreamHost::File(played), StreamHost::File(captured)],
    ]
}

#[test]
fn the_counter_sees_a_host_that_allocates() {
    // The other tests' host keeps what it plays in a vector.
    let mut audit = Audit::new(Bench::new());
    audit.bench.prepare(0);
    audit.queue_period(0);
    assert_eq!(audit.bench.request(&[0x104, 0]), OK);
    audit.bench.time += 10 * MILLISECOND;
    assert!(audit.wake_up().count_total > 0);
    assert_eq!(audit.bench.played(), [0; PERIOD as usize]);
}

#[test]
fn nothing_is_allocated_while_streams_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut audit = Audit::new(bench_of(hosts_alone(folder.path())));
    for stream in 0..audit.streams {
        audit.bench.prepare(stream);
    }
    audit.run_in_silence();
}

/// What alsa-lib itself allocates is not counted. Its null PCM takes all at once, and gives as much as there
/// is room for.
#[cfg(feature = "alsa")]
#[test]
fn nothing_is_allocated_while_streams_run_on_alsa() {
    let null = || StreamHost::Alsa("null".into());
    let mut audit = Audit::new(bench_of([[null(), null()]]));
    for stream in 0..audit.streams {
        audit.bench.prepare(stream);
        audit.await_host();
    }
    audit.run_in_silence();
}
