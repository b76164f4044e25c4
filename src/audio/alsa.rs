// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plays on and captures from named ALSA PCMs, straight in the hardware's own buffer.
//!
//! Where a PCM cannot be used, the stream goes on with a clock and silence: no application fails
//! because a card is busy or gone. The log says so once, and every PREPARE tries again.

mod hardware;
mod probe;

use super::clock::Clocked;
use super::null::Null;
use super::{Host, HostError, Nanos, Progress};
use crate::description::Stream as Description;
use crate::stream::Params;
use crate::wire::{Direction, PcmInfo};
use hardware::Hardware;

/// How long a stopped PCM is kept open. The Linux driver does not release a stream that has been
/// drained; without this, nobody else could open the card after the first sound.
const IDLE: Nanos = 1_000_000_000;

struct Stream {
    device: String,
    direction: Direction,
    params: Option<Params>,
    hardware: Option<Hardware>,
    /// Position at which the clock has taken over from the hardware.
    base: u64,
    /// When the hardware was stopped.
    idle_since: Option<Nanos>,
    /// The position at which a hardware that was closed goes on.
    resume_at: u64,
    fault: Option<HostError>,
    complained: bool,
}

impl Stream {
    fn complain(&mut self, error: HostError) {
        if !std::mem::replace(&mut self.complained, true) {
            self.fault = Some(error);
        }
    }

    fn open(&mut self, params: &Params, position: u64) {
        match Hardware::open(&self.device, self.direction, params, position) {
            Ok(hardware) => {
                self.hardware = Some(hardware);
                self.complained = false;
            }
            Err(error) => self.complain(error),
        }
    }
}

/// The host of `--host alsa`.
pub struct Alsa {
    infos: Vec<PcmInfo>,
    streams: Vec<Stream>,
    clock: Clocked<Null>,
}

impl Alsa {
    /// A host on the PCMs of these streams. One that cannot be opened now is offered with the
    /// parameters that it was described with, or those that most cards have.
    pub fn new<'a>(pcms: impl IntoIterator<Item = (&'a str, &'a Description)>) -> Self {
        let mut infos = Vec::new();
        let mut streams = Vec::new();
        for (device, description) in pcms {
            let direction = description.direction;
            let mut stream = Stream {
                device: device.to_owned(),
                direction,
                params: None,
                hardware: None,
                base: 0,
                idle_since: None,
                resume_at: 0,
                fault: None,
                complained: false,
            };
            infos.push(probe::probe(device, direction).unwrap_or_else(|error| {
                stream.complain(error);
                probe::usual(description)
            }));
            streams.push(stream);
        }
        let clock = Clocked::new(Null::new(infos.clone()));
        Self {
            infos,
            streams,
            clock,
        }
    }

    fn hardware(&mut self, stream: usize) -> Option<&mut Hardware> {
        self.streams.get_mut(stream)?.hardware.as_mut()
    }

    fn base(&self, stream: usize) -> u64 {
        self.streams.get(stream).map_or(0, |stream| stream.base)
    }

    /// The hardware has failed: the clock takes over where it was.
    fn fall_back(&mut self, id: usize, now: Nanos, error: HostError) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let Some(hardware) = stream.hardware.take() else {
            return;
        };
        stream.base = hardware.position();
        stream.resume_at = stream.base;
        stream.complain(error);
        let Some(params) = stream.params else { return };
        // Null never fails.
        let _ = self.clock.prepare(id, &params);
        if hardware.is_running() {
            let _ = self.clock.start(id, now);
        }
    }
}

impl Host for Alsa {
    fn streams(&self) -> &[PcmInfo] {
        &self.infos
    }

    fn prepare(&mut self, stream: usize, params: &Params) -> Result<(), HostError> {
        self.clock.prepare(stream, params)?;
        let Some(stream) = self.streams.get_mut(stream) else {
            return Ok(());
        };
        stream.params = Some(*params);
        stream.base = 0;
        stream.idle_since = None;
        stream.resume_at = 0;
        // Closed first: a PCM can be opened only once.
        stream.hardware = None;
        stream.open(params, 0);
        Ok(())
    }

    fn start(&mut self, stream: usize, now: Nanos) -> Result<(), HostError> {
        let Some(known) = self.streams.get_mut(stream) else {
            return Ok(());
        };
        if known.idle_since.take().is_some()
            && known.hardware.is_none()
            && let Some(params) = known.params
        {
            known.open(&params, known.resume_at);
            known.base = known.resume_at;
        }
        match known.hardware.as_mut().map(|hardware| hardware.start(now)) {
            None => self.clock.start(stream, now),
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                self.fall_back(stream, now, error);
                self.clock.start(stream, now)
            }
        }
    }

    fn stop(&mut self, stream: usize, now: Nanos) -> u64 {
        let base = self.base(stream);
        let Some(known) = self.streams.get_mut(stream) else {
            return 0;
        };
        let Some(hardware) = &mut known.hardware else {
            return base.saturating_add(self.clock.stop(stream, now));
        };
        known.idle_since = Some(now);
        let stopped = hardware.stop(now);
        let position = hardware.position();
        if let Err(error) = stopped {
            self.fall_back(stream, now, error);
        }
        position
    }

    fn release(&mut self, stream: usize) {
        self.clock.release(stream);
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.hardware = None;
            stream.idle_since = None;
        }
    }

    fn progress(&mut self, stream: usize, now: Nanos) -> Progress {
        match self.hardware(stream).map(|hardware| hardware.progress(now)) {
            Some(Ok(progress)) => return progress,
            Some(Err(error)) => self.fall_back(stream, now, error),
            None => {}
        }
        let base = self.base(stream);
        let progress = self.clock.progress(stream, now);
        Progress {
            position: progress.position.saturating_add(base),
            ..progress
        }
    }

    fn cursor(&self, stream: usize) -> u64 {
        match self.streams.get(stream) {
            Some(Stream {
                hardware: Some(hardware),
                ..
            }) => hardware.cursor(),
            Some(known) => known.base.saturating_add(self.clock.cursor(stream)),
            None => 0,
        }
    }

    fn write(&mut self, stream: usize, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        match self.hardware(stream) {
            Some(hardware) => hardware.write(frames, fill),
            None => self.clock.write(stream, frames, fill),
        }
    }

    fn read(&mut self, stream: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) -> u64 {
        match self.hardware(stream) {
            Some(hardware) => hardware.read(frames, drain),
            None => self.clock.read(stream, frames, drain),
        }
    }

    fn starve(&mut self, stream: usize, frames: u64, now: Nanos) -> u64 {
        match self.hardware(stream) {
            Some(hardware) => hardware.starve(),
            None => self.clock.starve(stream, frames, now),
        }
    }

    fn when(&self, stream: usize, position: u64, now: Nanos) -> Nanos {
        match self.streams.get(stream) {
            Some(Stream {
                hardware: Some(hardware),
                ..
            }) => hardware.when(position, now),
            Some(known) => self
                .clock
                .when(stream, position.saturating_sub(known.base), now),
            None => now.saturating_add(1),
        }
    }

    fn upkeep(&self, stream: usize, now: Nanos) -> Option<Nanos> {
        let known = self.streams.get(stream)?;
        let hardware = known.hardware.as_ref()?;
        match known.idle_since {
            Some(since) => Some(since.saturating_add(IDLE)),
            None => hardware.upkeep(now),
        }
    }

    fn rest(&mut self, stream: usize, now: Nanos) {
        let Some(known) = self.streams.get_mut(stream) else {
            return;
        };
        if known
            .idle_since
            .is_some_and(|since| now >= since.saturating_add(IDLE))
            && let Some(hardware) = known.hardware.take()
        {
            known.resume_at = hardware.position();
        }
    }

    fn fault(&mut self, stream: usize) -> Option<HostError> {
        self.streams
            .get_mut(stream)
            .and_then(|stream| stream.fault.take())
    }
}
