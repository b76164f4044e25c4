// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One stream in service: moves samples between its messages and its host, one copy each, and gives
//! messages back when the host's position has passed them.

mod batch;
mod resume;

use batch::Batch;
use vm_memory::GuestMemoryMmap;

use crate::audio::{Host, HostError, Nanos};
use crate::gain::Gain;
use crate::meter::Meter;
use crate::record::{Record, Snapshot};
use crate::ring::Ring;
use crate::stream::{Params, State};
use crate::transfer::Lane;
use crate::wire::{self, Direction, PcmInfo, Status};

/// Frames that are moved at once: a stream that has been let wait keeps no other one waiting. Longer
/// periods are moved in several parts, each in its time.
const SLICE: u64 = 16_384;
/// How often a running stream that holds no message looks for one, a quarter of a period within
/// these bounds: late sound is not made much later, and a wake-up costs some ten microseconds.
const LOOK_MIN: Nanos = 500_000;
const LOOK_MAX: Nanos = 4_000_000;
/// How often it looks when it has lost its patience and its driver will not kick.
const LOOK_IDLE: Nanos = 20_000_000;
/// How long it looks: the time of its buffer, but as long as a scheduler may make a program late
/// that is not late itself, and not for ever.
const PATIENCE_MIN: Nanos = 20_000_000;
const PATIENCE_MAX: Nanos = 1_000_000_000;

/// What a stream went through since PREPARE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames copied.
    pub frames: u64,
    /// How often sound had a hole.
    pub gaps: u64,
    /// Frames that were not heard, or not captured, there.
    pub lost: u64,
    /// Frames missed since the last copy: a hole only if more sound follows.
    open: u64,
}

impl Tally {
    fn missed(&mut self, frames: u64) {
        // Before the first frame nothing is missed yet.
        if self.frames > 0 {
            self.open = self.open.saturating_add(frames);
        }
    }

    /// The stream is started, for the first time or again: what came too late before is no hole.
    pub fn go_on(&mut self) {
        self.open = 0;
    }

    /// Another process goes on behind so many frames that are lost.
    fn restarted(&mut self, frames: u64) {
        if self.frames > 0 {
            self.gaps = self.gaps.saturating_add(1);
            self.lost = self.lost.saturating_add(frames);
        }
    }

    /// Its figures, to be written down.
    pub fn counts(&self) -> [u64; 4] {
        [self.frames, self.gaps, self.lost, self.open]
    }

    /// What was written down.
    pub fn from_counts([frames, gaps, lost, open]: [u64; 4]) -> Self {
        Self {
            frames,
            gaps,
            lost,
            open,
        }
    }

    /// Returns whether a hole ends here.
    fn copied(&mut self, frames: u64) -> bool {
        let hole = self.open > 0;
        if hole {
            self.gaps = self.gaps.saturating_add(1);
            self.lost = self.lost.saturating_add(std::mem::take(&mut self.open));
        }
        self.frames = self.frames.saturating_add(frames);
        hole
    }
}

/// A stream of the card.
pub struct Pcm {
    /// Stream id.
    pub id: usize,
    /// What it offers.
    pub info: PcmInfo,
    /// Where it is in its life.
    pub state: State,
    /// Its parameters, from SET_PARAMS on.
    pub params: Option<Params>,
    /// The messages it holds.
    pub lane: Lane,
    /// Since PREPARE.
    pub tally: Tally,
    /// What the card's control elements make of the samples.
    pub gain: Gain,
    /// How loud they are then.
    pub meter: Meter,
    /// Its host has failed and is not back: something else keeps its time.
    pub away: bool,
    /// What was given back just now.
    batch: Batch,
    /// Since when it runs without holding a message.
    dry_since: Option<Nanos>,
    /// Sound had a hole, and nobody has been told.
    xrun: bool,
    /// Where the next process finds how the stream is.
    record: Option<Record>,
    /// How the last process has left it, until its messages have been taken again.
    resume: Option<Snapshot>,
}

impl Pcm {
    /// A stream without parameters.
    pub fn new(id: usize, info: PcmInfo) -> Self {
        let lane = Lane::new(info.direction);
        Self {
            id,
            info,
            state: State::Idle,
            params: None,
            lane,
            tally: Tally::default(),
            gain: Gain::new(info.channels_max),
            meter: Meter::new(),
            away: false,
            batch: Batch::default(),
            dry_since: None,
            xrun: false,
            record: None,
            resume: None,
        }
    }

    fn selected(&self, feature: u32) -> bool {
        self.params
            .is_some_and(|params| params.features & feature != 0)
    }

    /// Whether the driver leaves it to this device to look for messages.
    fn is_polled(&self) -> bool {
        self.selected(wire::PCM_MSG_POLLING)
    }

    /// Whether the driver is to be told of a hole; once for each.
    ///
    /// A hole is one only when sound goes on behind it, so this comes at its end. A stream whose
    /// driver has nothing left to play, as at the end of a drain, has lost nothing: Linux 6.1 takes
    /// the event for an underrun, stops the stream and fails the application, which would then hear
    /// of trouble after every sound. When sound goes on, the application did lose some, and 6.1 is
    /// right to tell it. From 6.12 on, the driver finds underruns by itself and ignores the event.
    pub fn take_xrun(&mut self) -> bool {
        std::mem::take(&mut self.xrun) && self.selected(wire::PCM_EVT_XRUNS)
    }

    fn latency_bytes(&self, frames: u64) -> u32 {
        let frame_bytes = self.params.map_or(0, |params| params.frame_bytes());
        u32::try_from(frames.saturating_mul(frame_bytes.into())).unwrap_or(u32::MAX)
    }

    /// Moves what can be moved at `now`, and gives back what is through.
    pub fn serve(
        &mut self,
        host: &mut dyn Host,
        memory: &GuestMemoryMmap,
        ring: &mut Ring,
        now: Nanos,
    ) {
        let mut progress = host.progress(self.id, now);
        if self.wants_kick(now) && self.lane.held() > 0 {
            // The driver is back: what was due in its absence is not made up for.
            let missed = host.starve(self.id, progress.ready, now);
            self.tally.missed(missed);
            progress = host.progress(self.id, now);
        }
        let pending = self.lane.pending_frames();
        let due = progress.ready.min(pending).min(SLICE);
        self.tally.missed(host.lost(self.id));
        if due > 0 {
            let start = host.cursor(self.id);
            let (lane, gain, meter, mut skip) = (&self.lane, &mut self.gain, &mut self.meter, 0);
            let watched = meter.is_watched(now);
            let moved = match self.info.direction {
                Direction::Playback => host.write(self.id, due, &mut |to| {
                    lane.copy_out(memory, skip, to);
                    gain.apply(to);
                    if watched {
                        meter.measure(to);
                    }
                    skip += to.len();
                }),
                Direction::Capture => host.read(self.id, due, &mut |from| {
                    gain.pass(from, |part| {
                        lane.copy_in(memory, skip, part);
                        if watched {
                            meter.measure(part);
                        }
                        skip += part.len();
                    });
                }),
            };
            self.lane.advance(moved, start);
            self.xrun |= self.tally.copied(moved);
        }
        if progress.ready > due && due == pending {
            let missed = host.starve(self.id, progress.ready - due, now);
            self.tally.missed(missed);
        }
        self.note(host, progress.position, ring.serial() + 1, now);
        let latency_bytes = self.latency_bytes(progress.latency);
        while let (Some(params), Some(bytes)) = (self.params, self.lane.front_bytes()) {
            if self.front_open_from() > now {
                break;
            }
            let Some(message) = self.lane.finish(memory, progress.position, latency_bytes) else {
                break;
            };
            ring.give_back(memory, message.head, message.written);
            self.batch.add(&params, bytes, now);
        }
        self.dry_since = if self.lane.held() > 0 {
            None
        } else {
            self.dry_since.or(Some(now))
        };
    }

    /// Frames between the driver's newest sample and the loudspeaker, or between the microphone and
    /// the next sample that the driver gets.
    pub fn delay(&self, host: &mut dyn Host, now: Nanos) -> u64 {
        let progress = host.progress(self.id, now);
        let between = match self.info.direction {
            Direction::Playback => {
                let newest = host.cursor(self.id) + self.lane.pending_frames();
                newest.saturating_sub(progress.position)
            }
            Direction::Capture => progress.ready,
        };
        between.saturating_add(progress.latency)
    }

    /// When the stream has to be served next; `None` where only its driver can tell.
    pub fn deadline(&self, host: &mut dyn Host, now: Nanos) -> Option<Nanos> {
        // One that was taken over goes on when its ring is there, which is an order.
        if self.state != State::Running || self.is_resuming() {
            return host.upkeep(self.id, now);
        }
        let cursor = host.cursor(self.id);
        let next = match self.lane.front_end(cursor) {
            Some(end) => {
                host.expect(self.id, end);
                let part = end.min(cursor.saturating_add(SLICE));
                Some(self.next_end(host.when(self.id, part, now), now))
            }
            None => self.next_look(now),
        };
        next.into_iter().chain(host.upkeep(self.id, now)).min()
    }

    /// When to look at the oldest message again, which is through at `due`. While it has to wait although
    /// it is through, newer ones are late, and looked for.
    fn next_end(&self, due: Nanos, now: Nanos) -> Nanos {
        let open = self.front_open_from();
        if open <= now {
            return due;
        }
        let next = match due > now {
            true => due,
            false => now.saturating_add(self.look()),
        };
        next.min(open)
    }

    /// When the oldest message may be given back, if it is through.
    fn front_open_from(&self) -> Nanos {
        match (&self.params, self.lane.front_bytes()) {
            (Some(params), Some(bytes)) => self.batch.open_from(params, bytes),
            _ => 0,
        }
    }

    /// A driver that is a little late is waited for by looking at its ring: it sends no kick while
    /// its stream runs. One that has not come within the time of its whole buffer has stopped to
    /// deliver, and is to kick: then an open stream costs nothing. One that has selected MSG_POLLING
    /// never kicks, and is looked for now and then. A stream that stands is not looked for at all:
    /// START takes what has come before it.
    fn next_look(&self, now: Nanos) -> Option<Nanos> {
        let wait = match (self.is_impatient(now), self.is_polled()) {
            (false, _) => self.look(),
            (true, true) => LOOK_IDLE,
            (true, false) => return None,
        };
        Some(now.saturating_add(wait))
    }

    /// How often late messages are looked for.
    fn look(&self) -> Nanos {
        let period = self
            .params
            .map_or(0, |params| params.nanos(params.period_bytes));
        (period / 4).clamp(LOOK_MIN, LOOK_MAX)
    }

    /// Whether the running stream sees its next message only if the driver kicks for it.
    pub fn wants_kick(&self, now: Nanos) -> bool {
        self.state == State::Running && self.is_impatient(now) && !self.is_polled()
    }

    /// Whether its driver has stopped to deliver.
    fn is_impatient(&self, now: Nanos) -> bool {
        self.dry_since.is_some_and(|since| {
            let buffer = self
                .params
                .map_or(0, |params| params.nanos(params.buffer_bytes));
            now.saturating_sub(since) >= buffer.clamp(PATIENCE_MIN, PATIENCE_MAX)
        })
    }

    /// Lets the clock run.
    ///
    /// # Errors
    /// The host does not start.
    pub fn start(&mut self, host: &mut dyn Host, now: Nanos) -> Result<(), HostError> {
        self.dry_since = None;
        host.start(self.id, now)
    }

    /// The queue of its messages.
    pub fn queue(&self) -> usize {
        self.info.direction.queue()
    }

    /// Halts the clock. What has not been heard stays in its messages.
    pub fn stop(&mut self, host: &mut dyn Host, now: Nanos) {
        let position = host.stop(self.id, now);
        self.lane.rewind(position);
    }

    /// Gives all messages back.
    pub fn flush(&mut self, memory: &GuestMemoryMmap, ring: Option<&mut Ring>, status: Status) {
        let Some(ring) = ring else {
            return self.lane.forget();
        };
        while let Some(message) = self.lane.flush(memory, status) {
            ring.give_back(memory, message.head, message.written);
        }
    }
}
