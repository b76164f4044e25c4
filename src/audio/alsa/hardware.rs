// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One open PCM: its buffer is mapped, its hardware pointer is the clock.
//!
//! A timer wakes the thread when the pointer will have passed the end of a message; where the
//! pointer turns out to move in steps, the card's period interrupt does. Each wake-up reads the
//! pointer once and fills the buffer to one period of the driver plus a margin, so that samples are
//! copied late.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use alsa::pcm::{State, Status};
use nix::poll::PollFlags;

use super::buffer::Buffer;
use super::configure::{Agreed, configure};
use super::interrupt::Interrupt;
use super::pace::{Clock, Fill, available_at};
use super::probe::{failure, open};
use crate::audio::{HostError, Nanos, Progress};
use crate::stream::Params;
use crate::time::time;
use crate::wire::Direction;

/// How long after the expected time a card may still interrupt: half of what the buffer holds beyond
/// one period.
const BACKSTOP: Nanos = 5_000_000;
/// A pointer is not asked again sooner.
const SHORTEST_SLEEP: Nanos = 500_000;

/// How often the pointer of the last interrupt is enough before the card is asked itself, which also
/// tells what lies between it and the loudspeaker.
const GLANCES: u32 = 32;

/// An open PCM.
pub struct Hardware {
    device: Arc<str>,
    buffer: Buffer,
    interrupt: Option<Interrupt>,
    direction: Direction,
    rate: u32,
    agreed: Agreed,
    fill: Fill,
    clock: Clock,
    /// When it was last asked for its progress.
    asked: Nanos,
    /// Position at which the card's periods start.
    origin: u64,
    /// Position of the next frame to be written or read.
    cursor: u64,
    /// Position of the hardware pointer.
    position: u64,
    /// Frames that the card had to do without since it was last asked.
    skipped: u64,
    running: bool,
    /// START has come, and the first frames have not.
    starting: bool,
    /// The driver had less than what was asked for.
    short: bool,
    /// The interrupt is waited for that finds so many frames to be written or read.
    awaited: Option<u64>,
    /// See [`GLANCES`].
    glances: u32,
    /// Frames between the pointer and the loudspeaker or microphone.
    latency: u64,
    failed: Option<HostError>,
}

impl Hardware {
    /// Opens and configures a PCM; its next frame is at position 0.
    ///
    /// # Errors
    /// Another program has it, it is gone, or it refuses the parameters.
    pub fn open(
        device: &Arc<str>,
        direction: Direction,
        params: &Params,
    ) -> Result<Self, HostError> {
        let pcm = open(device, direction)?;
        let agreed = configure(&pcm, device, params)?;
        let interrupt = Interrupt::of(&pcm, device, direction, agreed.buffer);
        let driver_buffer = u64::from(params.buffer_bytes / params.frame_bytes());
        let fill = Fill::new(
            params.period_frames(),
            driver_buffer,
            agreed.buffer,
            params.rate,
        );
        Ok(Self {
            device: Arc::clone(device),
            buffer: Buffer::new(pcm, params),
            interrupt,
            direction,
            rate: params.rate,
            agreed,
            fill,
            clock: Clock::new(params.rate),
            asked: 0,
            origin: 0,
            cursor: 0,
            position: 0,
            skipped: 0,
            running: false,
            starting: false,
            short: false,
            awaited: None,
            glances: 0,
            latency: 0,
            failed: None,
        })
    }

    /// Position of the hardware pointer when it was last seen.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Position of the next frame to be written or read.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    fn filled(&self) -> u64 {
        self.cursor.saturating_sub(self.position)
    }

    /// A stopped PCM goes on from `position`; `ahead` frames from there on have been copied
    /// elsewhere, and are silence here.
    pub fn place(&mut self, position: u64, ahead: u64) {
        self.position = position;
        self.cursor = position;
        if self.direction == Direction::Playback {
            self.write_silence(ahead.min(self.agreed.buffer));
        }
    }

    /// Starts as soon as the first frames have been written, or there are none to be had.
    pub fn start_soon(&mut self) {
        self.starting = true;
    }

    /// Lets the hardware run. A playback buffer that is still empty gets a little silence: a PCM
    /// does not start without.
    pub fn start(&mut self, now: Nanos) -> Result<(), HostError> {
        self.starting = false;
        if self.direction == Direction::Playback && self.filled() == 0 {
            self.write_silence(self.fill.lead);
        }
        self.origin = self.position;
        self.buffer
            .pcm
            .start()
            .map_err(failure(&self.device, "start"))?;
        self.running = true;
        self.clock.set(self.position, now);
        Ok(())
    }

    fn start_if_due(&mut self) {
        if self.starting {
            self.failed = self.start(self.asked).err();
        }
    }

    /// Halts the hardware at once and drops what has not been heard.
    pub fn stop(&mut self, now: Nanos) -> Result<(), HostError> {
        let seen = self.progress(now).map(|_| ());
        self.running = false;
        self.starting = false;
        self.awaited = None;
        let stopped = self
            .buffer
            .pcm
            .drop()
            .and_then(|()| self.buffer.pcm.prepare());
        if self.direction == Direction::Playback {
            self.position = self.position.min(self.cursor);
            self.cursor = self.position;
        } else {
            self.position = self.cursor;
        }
        seen.and(stopped.map_err(failure(&self.device, "stop")))
    }

    /// Asks the hardware where it is.
    pub fn progress(&mut self, now: Nanos) -> Result<Progress, HostError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.asked = now;
        if self.starting && self.direction == Direction::Capture {
            self.start(now)?;
        }
        let (available, at) = self.look(now)?;
        let over = available.saturating_sub(self.agreed.buffer);
        if over > 0 && self.running {
            self.skip(over);
        }
        let available = available.min(self.agreed.buffer);
        let ready = match self.direction {
            Direction::Playback => {
                let filled = self.agreed.buffer - available;
                let behind = filled.saturating_add(self.ahead(over));
                self.position = self.position.max(self.cursor.saturating_sub(behind));
                let target = self.fill.target(self.clock.lag());
                target.saturating_sub(self.filled())
            }
            Direction::Capture => {
                self.position = self.cursor.saturating_add(available);
                available
            }
        };
        // One that took another's place is full before it has started: nothing will be written that starts it.
        if self.starting && ready == 0 {
            self.start(now)?;
        }
        if self.running {
            self.clock.saw(self.position, at);
        }
        self.short = false;
        Ok(Progress {
            position: self.position,
            ready,
            latency: self.latency,
        })
    }

    /// The frames that can be written or read, and when that was so.
    fn look(&mut self, now: Nanos) -> Result<(u64, Nanos), HostError> {
        if let (Some(awaited), Some(interrupt)) = (self.awaited.take(), &self.interrupt)
            && self.glances > 0
            && let Some(available) = interrupt.available().filter(|&frames| frames >= awaited)
        {
            self.glances -= 1;
            return Ok((available, now));
        }
        self.glances = GLANCES;
        // Some plugins of alsa-lib move only then. What goes wrong is in the status, too.
        let _ = self.buffer.pcm.avail_update();
        let fail = failure(&self.device, "position");
        let mut status = self.buffer.pcm.status().map_err(fail)?;
        if self.running && !matches!(status.get_state(), State::Running | State::Draining) {
            let room = u64::try_from(status.get_avail()).unwrap_or(0);
            self.restart(now, self.agreed.buffer.saturating_sub(room))?;
            let fail = failure(&self.device, "position");
            status = self.buffer.pcm.status().map_err(fail)?;
        }
        let available = u64::try_from(status.get_avail()).unwrap_or(0);
        let delay = u64::try_from(status.get_delay()).unwrap_or(0);
        let hidden = match self.direction {
            Direction::Playback => self.agreed.buffer.saturating_sub(available),
            Direction::Capture => available,
        };
        self.latency = delay.saturating_sub(hidden);
        Ok((available, time_of(&status, now)))
    }

    /// After [`Hardware::skip`], silence that was written lies before the cursor.
    fn ahead(&self, over: u64) -> u64 {
        if over > 0 && self.running {
            self.fill.lead
        } else {
            0
        }
    }

    /// A card that noticed an underrun or overrun itself, or was suspended, is started anew. What
    /// its clock has passed since is lost, and so are the frames that it had not played: `filled` of
    /// its buffer's, of a card that was suspended.
    fn restart(&mut self, now: Nanos, filled: u64) -> Result<(), HostError> {
        let fail = failure(&self.device, "restart");
        self.buffer.pcm.prepare().map_err(fail)?;
        if self.direction == Direction::Playback {
            self.skipped += filled;
        }
        let position = self.clock.position(now).max(self.cursor);
        self.skipped += position - self.cursor;
        self.place(position, self.fill.lead);
        self.origin = position;
        self.buffer
            .pcm
            .start()
            .map_err(failure(&self.device, "restart"))
    }

    /// The hardware is ahead of this thread by more than its buffer: catch up with it.
    fn skip(&mut self, frames: u64) {
        let before = self.cursor;
        match self.direction {
            Direction::Playback => self.write_silence(frames + self.fill.lead),
            Direction::Capture => {
                self.read(frames, &mut |_| ());
            }
        }
        self.skipped += self.cursor - before;
    }

    /// Copies up to `frames` frames into the card's buffer.
    pub fn write(&mut self, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        let written = self.transfer(frames, fill);
        self.start_if_due();
        written
    }

    /// Copies up to `frames` frames out of the card's buffer.
    pub fn read(&mut self, frames: u64, drain: &mut dyn FnMut(&[u8])) -> u64 {
        self.transfer(frames, &mut |room| drain(room))
    }

    fn transfer(&mut self, frames: u64, visit: &mut dyn FnMut(&mut [u8])) -> u64 {
        let moved = self.buffer.transfer(frames, visit);
        self.cursor += moved;
        moved
    }

    fn write_silence(&mut self, frames: u64) {
        self.cursor += self.buffer.write_silence(frames);
    }

    /// The driver has no more frames, or no room. Returns the frames of silence or loss since the
    /// last call.
    pub fn starve(&mut self) -> u64 {
        self.start_if_due();
        self.short = true;
        if self.running && self.direction == Direction::Playback && self.filled() <= self.dry() {
            let before = self.cursor;
            self.write_silence(self.fill.lead.saturating_sub(self.filled()));
            self.skipped += self.cursor - before;
        }
        self.lost()
    }

    /// The frames of silence or loss since the last call.
    pub fn lost(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// With so few frames left, silence is written in good time: nobody else does it. The kernel
    /// does, for a hw PCM.
    fn dry(&self) -> u64 {
        match self.interrupt {
            Some(_) => 0,
            None => self.fill.lead / 2,
        }
    }

    /// The next wake-up is wanted when the pointer has passed `position`.
    pub fn expect(&mut self, position: u64) {
        self.awaited = None;
        let (Some(interrupt), true) = (&self.interrupt, self.running && self.clock.is_coarse())
        else {
            return;
        };
        let from_start = position.saturating_sub(self.origin);
        // A period of the card has to end there, and the frames up to there to be in its buffer.
        if position <= self.position || !from_start.is_multiple_of(self.agreed.period) {
            return;
        }
        self.awaited = available_at(self.direction, position, self.cursor, self.agreed.buffer);
        if let Some(frames) = self.awaited {
            interrupt.await_frames(frames);
        }
    }

    /// The card's interrupt, while it is waited for.
    pub fn waker(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.awaited?;
        self.interrupt.as_ref().map(Interrupt::waker)
    }

    /// When the pointer is expected to have passed `position`. Earlier where the card has all that
    /// the driver had: more may have come since, without a kick, and an interrupt may be late.
    pub fn when(&self, position: u64, now: Nanos) -> Nanos {
        let patience = self.awaited.map_or(0, |_| BACKSTOP);
        let mut due = self.clock.when(position).saturating_add(patience);
        if self.short && self.direction == Direction::Playback {
            due = due.min(self.clock.nearly_dry(self.cursor));
        }
        due.max(now.saturating_add(SHORTEST_SLEEP))
    }

    /// When the buffer is so low that it has to be looked after.
    pub fn upkeep(&self, now: Nanos) -> Option<Nanos> {
        if self.direction == Direction::Capture || !self.running {
            return None;
        }
        let position = if !self.short {
            let low = self.fill.low(self.clock.lag(), self.rate);
            self.cursor.saturating_sub(low)
        } else if self.interrupt.is_some() {
            // The card plays silence; its pointer must not get a whole buffer ahead.
            self.cursor + self.agreed.buffer / 2
        } else {
            self.cursor.saturating_sub(self.dry())
        };
        Some(self.clock.when(position).max(now + SHORTEST_SLEEP))
    }
}

/// When the pointer was read.
fn time_of(status: &Status, now: Nanos) -> Nanos {
    let stamp = status.get_htstamp();
    let seconds = u64::try_from(stamp.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(stamp.tv_nsec).unwrap_or(0);
    let at = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    // A driver that stamps with another clock, or not at all.
    if at.abs_diff(now) > time(1, 1) {
        now
    } else {
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm_format;

    const MILLISECOND: Nanos = 1_000_000;

    /// A card of ALSA's that takes everything, with periods of 480 frames and four of them.
    fn null_card() -> Hardware {
        let params = Params {
            format: pcm_format::S16,
            rate: 48_000,
            channels: 2,
            buffer_bytes: 7680,
            period_bytes: 1920,
            features: 0,
        };
        Hardware::open(&Arc::from("null"), Direction::Playback, &params).unwrap()
    }

    #[test]
    fn a_card_that_is_full_when_it_takes_anothers_place_starts() {
        let mut hardware = null_card();
        hardware.place(0, 1920);
        hardware.start_soon();
        let found = hardware.progress(3_600_000 * MILLISECOND).unwrap();
        assert_eq!((found.ready, hardware.running), (0, true));
    }

    #[test]
    fn a_card_that_stops_as_soon_as_it_has_started_goes_on_where_it_was() {
        let mut hardware = null_card();
        let now = 3_600_000 * MILLISECOND;
        hardware.start_soon();
        hardware.progress(now).unwrap();
        assert_eq!(hardware.write(480, &mut |_| ()), 480);
        assert!(hardware.running);
        hardware.restart(now + 20 * MILLISECOND, 0).unwrap();
        assert_eq!((hardware.position(), hardware.lost()), (960, 480));
    }
}
