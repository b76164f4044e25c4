// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One open PCM: its buffer is mapped, its hardware pointer is the clock.
//!
//! The thread's timer, not the card's interrupt, paces it. The buffer is filled to one period of
//! the driver plus a margin and no further, so that samples are copied late; silence goes in only
//! when the last of the sound is about to be played.

use alsa::ValueOr;
use alsa::pcm::{Access, Frames, HwParams, PCM};

use super::super::{HostError, Nanos, Progress};
use super::probe::{alsa_format, failure, open};
use crate::pcm_format::Format;
use crate::stream::Params;
use crate::wire::Direction;

const SECOND: u64 = 1_000_000_000;
/// What the buffer holds beyond one period, in parts of a second: more than a tick of the slowest
/// clock that a card's pointer follows.
const MARGIN: u64 = 100;
/// Shortest buffer to ask for, in parts of a second.
const SHORTEST_BUFFER: u64 = 5;
/// The pointer of a card moves in steps: asking again sooner than this tells nothing new.
const PATIENCE: Nanos = 500_000;

/// An open PCM.
pub struct Hardware {
    device: String,
    pcm: PCM,
    direction: Direction,
    format: Format,
    frame_bytes: usize,
    rate: u64,
    /// Frames of the card's buffer.
    buffer: u64,
    /// Playback: fill it to here; look for more below `low`; add silence below `dry`.
    target: u64,
    low: u64,
    dry: u64,
    /// Position of the next frame to be written or read.
    cursor: u64,
    /// Position of the hardware pointer, and when it was there.
    position: u64,
    seen_at: Nanos,
    /// Frames that the card had to do without since it was last asked.
    skipped: u64,
    running: bool,
}

impl Hardware {
    /// Opens and configures a PCM; its next frame is at `position`.
    ///
    /// # Errors
    /// Another program has it, it is gone, or it refuses the parameters.
    pub fn open(
        device: &str,
        direction: Direction,
        params: &Params,
        position: u64,
    ) -> Result<Self, HostError> {
        let pcm = open(device, direction)?;
        configure(&pcm, device, params)?;
        let fail = failure(device, "buffer");
        let buffer = pcm
            .hw_params_current()
            .and_then(|hw| hw.get_buffer_size())
            .map_err(fail)?;
        let buffer = u64::try_from(buffer).unwrap_or(0);
        let rate = u64::from(params.rate);
        let margin = rate / MARGIN;
        let driver_frames = u64::from(params.buffer_bytes / params.frame_bytes());
        let low = margin.min(driver_frames / 4).max(1);
        Ok(Self {
            device: device.to_owned(),
            pcm,
            direction,
            format: params.format,
            frame_bytes: params.frame_bytes() as usize,
            rate,
            buffer,
            target: (params.period_frames() + margin).min(buffer),
            low,
            dry: low / 2,
            cursor: position,
            position,
            seen_at: 0,
            skipped: 0,
            running: false,
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

    /// Whether it has been started.
    pub fn is_running(&self) -> bool {
        self.running
    }

    fn fill(&self) -> u64 {
        self.cursor.saturating_sub(self.position)
    }

    /// Lets the hardware run. A playback buffer that is still empty gets a little silence: a PCM
    /// does not start without.
    pub fn start(&mut self, now: Nanos) -> Result<(), HostError> {
        if self.direction == Direction::Playback && self.fill() == 0 {
            self.write_silence(self.low);
        }
        self.pcm.start().map_err(failure(&self.device, "start"))?;
        self.running = true;
        self.seen_at = now;
        Ok(())
    }

    /// Halts the hardware at once and drops what has not been heard.
    pub fn stop(&mut self, now: Nanos) -> Result<(), HostError> {
        let seen = self.progress(now).map(|_| ());
        self.running = false;
        let fail = failure(&self.device, "stop");
        let stopped = seen.and(
            self.pcm
                .drop()
                .and_then(|()| self.pcm.prepare())
                .map_err(fail),
        );
        if self.direction == Direction::Playback {
            self.position = self.position.min(self.cursor);
            self.cursor = self.position;
        } else {
            self.position = self.cursor;
        }
        stopped
    }

    /// Asks the hardware where it is.
    pub fn progress(&mut self, now: Nanos) -> Result<Progress, HostError> {
        let state = match self.pcm.avail_delay() {
            Err(error) if self.restart(&error) => self.pcm.avail_delay(),
            state => state,
        };
        let (available, delay) = state.map_err(failure(&self.device, "position"))?;
        let available = u64::try_from(available).unwrap_or(0);
        let delay = u64::try_from(delay).unwrap_or(0);
        self.seen_at = now;
        let over = available.saturating_sub(self.buffer);
        if over > 0 {
            self.skip(over);
        }
        let available = available.min(self.buffer);
        Ok(match self.direction {
            Direction::Playback => {
                let fill = self.buffer - available;
                self.position = self.position.max(self.cursor.saturating_sub(fill));
                Progress {
                    position: self.position,
                    ready: self.target.saturating_sub(fill),
                    latency: delay.saturating_sub(fill),
                }
            }
            Direction::Capture => {
                self.position = self.cursor + available;
                let latency = delay.saturating_sub(available);
                Progress {
                    position: self.position,
                    ready: available,
                    latency,
                }
            }
        })
    }

    /// After an overrun or underrun that the card itself noticed, goes on. False if it cannot.
    fn restart(&mut self, error: &alsa::Error) -> bool {
        if error.errno() != nix::errno::Errno::EPIPE as i32 || self.pcm.prepare().is_err() {
            return false;
        }
        // All that was in the buffer is taken as played.
        self.position = self.cursor;
        self.skipped += self.low;
        if self.direction == Direction::Playback {
            self.write_silence(self.low);
        }
        !self.running || self.pcm.start().is_ok()
    }

    /// The hardware is ahead of this thread by more than its buffer: catch up with it.
    fn skip(&mut self, frames: u64) {
        match self.direction {
            Direction::Playback => self.write_silence(frames),
            Direction::Capture => {
                self.read(frames, &mut |_| ());
            }
        }
        self.skipped += frames;
    }

    /// Copies up to `frames` frames into the card's buffer.
    pub fn write(&mut self, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        self.transfer(frames, fill)
    }

    /// Copies up to `frames` frames out of the card's buffer.
    pub fn read(&mut self, frames: u64, drain: &mut dyn FnMut(&[u8])) -> u64 {
        self.transfer(frames, &mut |room| drain(room))
    }

    fn transfer(&mut self, frames: u64, visit: &mut dyn FnMut(&mut [u8])) -> u64 {
        let io = self.pcm.io_bytes();
        let mut left = frames;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX);
            let moved = io.mmap(wanted, |room| {
                visit(room);
                room.len() / self.frame_bytes
            });
            match moved {
                Ok(moved) if moved > 0 => left = left.saturating_sub(moved as u64),
                // What is wrong shows when the card is asked for its position next.
                _ => break,
            }
        }
        let moved = frames - left;
        self.cursor += moved;
        moved
    }

    fn write_silence(&mut self, frames: u64) {
        let format = self.format;
        self.transfer(frames, &mut |room| format.fill_silence(room));
    }

    /// The driver has no more frames, or no room. Returns the frames of silence or loss since the
    /// last call.
    pub fn starve(&mut self) -> u64 {
        if self.direction == Direction::Playback && self.running && self.fill() < self.dry {
            let before = self.cursor;
            self.write_silence(self.low.saturating_sub(self.fill()));
            self.skipped += self.cursor - before;
        }
        std::mem::take(&mut self.skipped)
    }

    fn time(&self, frames: u64) -> Nanos {
        let nanos = u128::from(frames) * u128::from(SECOND) / u128::from(self.rate.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    /// When the pointer is expected at `position`.
    pub fn when(&self, position: u64, now: Nanos) -> Nanos {
        let ahead = self.time(position.saturating_sub(self.position));
        self.seen_at
            .saturating_add(ahead)
            .max(now.saturating_add(PATIENCE))
    }

    /// When the buffer is so low that it has to be looked after.
    pub fn upkeep(&self, now: Nanos) -> Option<Nanos> {
        if self.direction == Direction::Capture || !self.running {
            return None;
        }
        let level = if self.fill() > self.low {
            self.low
        } else {
            self.dry
        };
        Some(self.when(self.cursor.saturating_sub(level), now))
    }
}

fn configure(pcm: &PCM, device: &str, params: &Params) -> Result<(), HostError> {
    let fail = |step| failure(device, step);
    let unsupported = || fail("format")(alsa::Error::unsupported("snd_pcm_hw_params_set_format"));
    let format = alsa_format(params.format).ok_or_else(unsupported)?;
    let hw = HwParams::any(pcm).map_err(fail("parameters"))?;
    hw.set_rate_resample(false).map_err(fail("no resampling"))?;
    hw.set_access(Access::MMapInterleaved)
        .map_err(fail("mapped access"))?;
    hw.set_format(format).map_err(fail("format"))?;
    hw.set_channels(params.channels.into())
        .map_err(fail("channels"))?;
    hw.set_rate(params.rate, ValueOr::Nearest)
        .map_err(fail("rate"))?;
    let period = params.period_frames();
    let divisors = 1..=16u64;
    let exact = divisors
        .filter(|divisor| period.is_multiple_of(*divisor))
        .any(|divisor| {
            hw.set_period_size((period / divisor) as Frames, ValueOr::Nearest)
                .is_ok()
        });
    if !exact {
        hw.set_period_size_near(period as Frames, ValueOr::Nearest)
            .map_err(fail("period"))?;
    }
    let rate = u64::from(params.rate);
    let wanted = (2 * period + 2 * rate / MARGIN).max(rate / SHORTEST_BUFFER);
    hw.set_buffer_size_near(wanted as Frames)
        .map_err(fail("buffer"))?;
    pcm.hw_params(&hw).map_err(fail("parameters"))?;
    let sw = pcm
        .sw_params_current()
        .map_err(fail("software parameters"))?;
    let boundary = sw.get_boundary().map_err(fail("software parameters"))?;
    // Started by START alone; never stopped by an underrun: the clock goes on.
    sw.set_start_threshold(boundary)
        .map_err(fail("start threshold"))?;
    sw.set_stop_threshold(boundary)
        .map_err(fail("stop threshold"))?;
    pcm.sw_params(&sw).map_err(fail("software parameters"))?;
    pcm.prepare().map_err(fail("prepare"))
}
