// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plays on and captures from named ALSA PCMs, straight in the hardware's own buffer.
//!
//! Where a PCM cannot be used, the stream goes on with a clock and silence: no application fails
//! because a card is busy or gone. The log says so once; another thread goes on trying, and hands
//! the PCM over to the running stream when it is there.

mod buffer;
mod configure;
mod hardware;
mod interrupt;
mod kernel;
mod offer;
mod opener;
mod pace;
mod probe;
mod stream;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::poll::PollFlags;

use super::clock::Clocked;
use super::null::Null;
use super::{Host, HostError, Nanos, Progress};
use crate::description::Stream as Described;
use crate::stream::Params;
use crate::wire::PcmInfo;
use hardware::Hardware;
use opener::{News, Opener, Pcm};
use stream::{Place, Stream};

/// How long a PCM is kept open that does not run. The Linux driver does not release a stream that has
/// been drained, and an application may prepare one and never start it; without this, nobody else could
/// open the card.
const IDLE: Nanos = 1_000_000_000;
/// How long a started stream waits for its PCM to be opened before the clock takes its place. ALSA
/// tells an application of an I/O error when nothing has moved for 100 ms.
const OPENING: Nanos = 50_000_000;

/// The host of `--host alsa`.
pub struct Alsa {
    infos: Vec<PcmInfo>,
    streams: Vec<Stream>,
    clock: Clocked<Null>,
    opener: Opener,
}

impl Alsa {
    /// A host on the PCMs of these streams. One that cannot be opened now is offered with the
    /// parameters that it was described with, or those that most cards have.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new<'a>(
        pcms: impl IntoIterator<Item = (&'a str, &'a Described)>,
    ) -> Result<Self, HostError> {
        let mut infos = Vec::new();
        let mut streams = Vec::new();
        for (device, description) in pcms {
            let mut stream = Stream::new(Pcm {
                device: Arc::from(device),
                direction: description.direction,
            });
            let info = probe::probe(&stream.pcm.device, description).unwrap_or_else(|error| {
                stream.complain(error);
                probe::usual(description)
            });
            infos.push(info);
            streams.push(stream);
        }
        let pcms = streams.iter().map(|stream| stream.pcm.clone()).collect();
        let opener = Opener::start(pcms).map_err(HostError::Thread)?;
        Ok(Self {
            clock: Clocked::new(Null::new(infos.clone())),
            infos,
            streams,
            opener,
        })
    }

    fn hardware(&mut self, stream: usize) -> Option<&mut Hardware> {
        self.streams.get_mut(stream)?.hardware_mut()
    }

    fn base(&self, stream: usize) -> u64 {
        self.streams.get(stream).map_or(0, |stream| stream.base)
    }

    /// The hardware has failed: the clock takes over where it was, until the hardware is back.
    fn fall_back(&mut self, id: usize, now: Nanos, error: HostError) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let Place::Open(hardware) = std::mem::replace(&mut stream.place, Place::Missing) else {
            return;
        };
        stream.complain(error);
        let position = hardware.position();
        stream.base = position.saturating_sub(self.clock.stop(id, now));
        // What was in the card is lost, and not copied again: the clock goes over it.
        let ahead = hardware.cursor().saturating_sub(position);
        self.clock.write(id, ahead, &mut |_| ());
        self.opener.close(hardware);
        stream.open(id, &mut self.opener, true);
        if stream.running {
            // A clock does not fail.
            let _ = self.clock.start(id, now);
        }
    }

    /// The clock takes the place of a PCM that is not open yet. One that runs already runs on.
    fn go_without(&mut self, id: usize, now: Nanos) {
        if let Some(stream) = self.streams.get_mut(id)
            && let Place::Opening(_) = stream.place
        {
            stream.place = Place::Missing;
            if stream.running {
                let _ = self.clock.start(id, now);
            }
        }
    }

    fn hear(&mut self, news: News, now: Nanos) {
        let id = news.stream;
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let awaited = news.ticket == stream.ticket
            && matches!(stream.place, Place::Opening(_) | Place::Missing);
        match news.result {
            Ok(hardware) if awaited => self.take_over(id, hardware, now),
            Ok(hardware) => self.opener.close(hardware),
            Err(error) if awaited => {
                stream.complain(error);
                self.go_without(id, now);
            }
            Err(_) => {}
        }
    }

    /// The PCM is open: from here on the stream's time is the card's.
    fn take_over(&mut self, id: usize, mut hardware: Box<Hardware>, now: Nanos) {
        let Some(stream) = self.streams.get_mut(id) else {
            return self.opener.close(hardware);
        };
        let position = self.clock.progress(id, now).position;
        let ahead = self.clock.cursor(id).saturating_sub(position);
        self.clock.stop(id, now);
        hardware.place(stream.base.saturating_add(position), ahead);
        if stream.running {
            hardware.start_soon();
        }
        stream.place = Place::Open(hardware);
        if std::mem::take(&mut stream.complained) {
            // A fault that has not been fetched yet is told first.
            stream.returned = true;
        }
    }
}

impl Host for Alsa {
    fn streams(&self) -> &[PcmInfo] {
        &self.infos
    }

    fn prepare(&mut self, id: usize, params: &Params) -> Result<(), HostError> {
        self.clock.prepare(id, params)?;
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(());
        };
        stream.base = 0;
        stream.idle_since = None;
        stream.running = false;
        let same = stream.params.replace(*params) == Some(*params);
        if let Some(hardware) = stream.hardware_mut().filter(|_| same) {
            hardware.place(0, 0);
            return Ok(());
        }
        stream.close(id, &mut self.opener);
        stream.place = Place::Opening(None);
        stream.open(id, &mut self.opener, false);
        Ok(())
    }

    fn start(&mut self, id: usize, now: Nanos) -> Result<(), HostError> {
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(());
        };
        stream.running = true;
        stream.idle_since = None;
        match &mut stream.place {
            Place::Open(hardware) => {
                if let Err(error) = hardware.start(now) {
                    self.fall_back(id, now, error);
                }
                return Ok(());
            }
            Place::Missing => return self.clock.start(id, now),
            Place::Opening(until) => *until = Some(now.saturating_add(OPENING)),
            Place::Closed => {
                stream.place = Place::Opening(Some(now.saturating_add(OPENING)));
                stream.open(id, &mut self.opener, false);
            }
        }
        Ok(())
    }

    fn stop(&mut self, id: usize, now: Nanos) -> u64 {
        let Some(stream) = self.streams.get_mut(id) else {
            return 0;
        };
        stream.running = false;
        stream.idle_since = Some(now);
        match &mut stream.place {
            Place::Open(hardware) => {
                let stopped = hardware.stop(now);
                let position = hardware.position();
                if let Err(error) = stopped {
                    self.fall_back(id, now, error);
                }
                return position;
            }
            Place::Opening(until) => *until = None,
            Place::Missing | Place::Closed => {}
        }
        self.clock.stop(id, now).saturating_add(stream.base)
    }

    fn release(&mut self, id: usize) {
        self.clock.release(id);
        if let Some(stream) = self.streams.get_mut(id) {
            stream.running = false;
            stream.idle_since = None;
            stream.close(id, &mut self.opener);
        }
    }

    fn progress(&mut self, id: usize, now: Nanos) -> Progress {
        let waiting = self.streams.get(id).and_then(Stream::waits_until);
        if waiting.is_some_and(|until| now >= until) {
            self.go_without(id, now);
        }
        match self.hardware(id).map(|hardware| hardware.progress(now)) {
            Some(Ok(progress)) => return progress,
            Some(Err(error)) => self.fall_back(id, now, error),
            None => {}
        }
        let progress = self.clock.progress(id, now);
        Progress {
            position: progress.position.saturating_add(self.base(id)),
            ..progress
        }
    }

    fn cursor(&self, id: usize) -> u64 {
        match self.streams.get(id).and_then(Stream::hardware) {
            Some(hardware) => hardware.cursor(),
            None => self.base(id).saturating_add(self.clock.cursor(id)),
        }
    }

    fn write(&mut self, id: usize, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        match self.hardware(id) {
            Some(hardware) => hardware.write(frames, fill),
            None => self.clock.write(id, frames, fill),
        }
    }

    fn read(&mut self, id: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) -> u64 {
        match self.hardware(id) {
            Some(hardware) => hardware.read(frames, drain),
            None => self.clock.read(id, frames, drain),
        }
    }

    fn starve(&mut self, id: usize, frames: u64, now: Nanos) -> u64 {
        match self.hardware(id) {
            Some(hardware) => hardware.starve(),
            None => self.clock.starve(id, frames, now),
        }
    }

    fn lost(&mut self, id: usize) -> u64 {
        self.hardware(id).map_or(0, Hardware::lost)
    }

    fn expect(&mut self, id: usize, position: u64) {
        if let Some(hardware) = self.hardware(id) {
            hardware.expect(position);
        }
    }

    fn wakers<'a>(&'a self, wait: &mut dyn FnMut(BorrowedFd<'a>, PollFlags)) {
        wait(self.opener.alarm(), PollFlags::POLLIN);
        let interrupts = self.streams.iter().filter_map(Stream::hardware);
        for (descriptor, flags) in interrupts.filter_map(Hardware::waker) {
            wait(descriptor, flags);
        }
    }

    fn wake(&mut self, now: Nanos) {
        while let Some(news) = self.opener.news() {
            self.hear(news, now);
        }
    }

    fn when(&self, id: usize, position: u64, now: Nanos) -> Nanos {
        let Some(stream) = self.streams.get(id) else {
            return now.saturating_add(1);
        };
        match &stream.place {
            Place::Open(hardware) => hardware.when(position, now),
            Place::Opening(Some(until)) => *until,
            _ => self
                .clock
                .when(id, position.saturating_sub(stream.base), now),
        }
    }

    fn upkeep(&self, id: usize, now: Nanos) -> Option<Nanos> {
        let stream = self.streams.get(id)?;
        let idle = stream
            .idle_since
            .filter(|_| !matches!(stream.place, Place::Closed));
        if let Some(since) = idle {
            return Some(since.saturating_add(IDLE));
        }
        let upkeep = stream.hardware().and_then(|hardware| hardware.upkeep(now));
        upkeep.or(stream.waits_until())
    }

    fn rest(&mut self, id: usize, now: Nanos) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        if !stream.running && !matches!(stream.place, Place::Closed) {
            // It was prepared, and this is the first look at it.
            stream.idle_since.get_or_insert(now);
        }
        if stream
            .idle_since
            .is_some_and(|since| now >= since.saturating_add(IDLE))
        {
            stream.idle_since = None;
            if let Some(hardware) = stream.hardware() {
                let clock = self.clock.stop(id, now);
                stream.base = hardware.position().saturating_sub(clock);
            }
            stream.close(id, &mut self.opener);
        }
    }

    fn fault(&mut self, id: usize) -> Option<HostError> {
        self.streams.get_mut(id)?.fault.take()
    }

    fn returned(&mut self, id: usize) -> bool {
        self.streams
            .get_mut(id)
            .is_some_and(|stream| std::mem::take(&mut stream.returned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::StreamHost;
    use crate::pcm_format;
    use crate::wire::Direction;

    const MILLISECOND: Nanos = 1_000_000;
    const PARAMS: Params = Params {
        format: pcm_format::S16,
        rate: 48_000,
        channels: 2,
        buffer_bytes: 7680,
        period_bytes: 1920,
        features: 0,
    };

    fn host_on(device: &str) -> Alsa {
        let host = StreamHost::Alsa(device.into());
        let description = Described::new(Direction::Playback, 0, host);
        Alsa::new([(device, &description)]).unwrap()
    }

    fn wait_until_open(alsa: &mut Alsa, now: Nanos) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while alsa.streams[0].hardware().is_none() {
            assert!(std::time::Instant::now() < end, "it is never opened");
            std::thread::sleep(std::time::Duration::from_millis(1));
            alsa.wake(now);
        }
    }

    #[test]
    fn a_card_that_was_prepared_and_never_started_is_given_back() {
        let mut alsa = host_on("null");
        alsa.prepare(0, &PARAMS).unwrap();
        wait_until_open(&mut alsa, 0);
        alsa.rest(0, 0);
        let due = alsa.upkeep(0, 0).unwrap();
        alsa.rest(0, due - 1);
        assert!(matches!(alsa.streams[0].place, Place::Open(_)));
        alsa.rest(0, due);
        assert!(matches!(alsa.streams[0].place, Place::Closed));
        assert_eq!(alsa.upkeep(0, due), None);
        // It is opened again for who starts late.
        alsa.start(0, due).unwrap();
        wait_until_open(&mut alsa, due);
        let now = due + 10 * MILLISECOND;
        let ready = alsa.progress(0, now).ready;
        assert!(ready > 0);
        assert_eq!(alsa.write(0, 100, &mut |_| ()), 100);
        assert_eq!(alsa.cursor(0), 100);
        alsa.rest(0, now + 2 * IDLE);
        assert!(matches!(alsa.streams[0].place, Place::Open(_)));
    }

    #[test]
    fn a_clock_that_runs_does_not_go_back_when_the_card_turns_out_to_be_missing() {
        let mut alsa = host_on("hw:nosuchcard");
        alsa.prepare(0, &PARAMS).unwrap();
        alsa.start(0, 0).unwrap();
        alsa.progress(0, OPENING);
        let late = OPENING + 500 * MILLISECOND;
        let position = alsa.progress(0, late).position;
        assert_eq!(position, 24_000);
        let news = News {
            stream: 0,
            ticket: alsa.streams[0].ticket,
            result: Err(HostError::Thread(std::io::Error::other("late"))),
        };
        alsa.hear(news, late);
        assert_eq!(alsa.progress(0, late).position, position);
        let later = alsa.progress(0, late + 10 * MILLISECOND).position;
        assert_eq!(later, position + 480);
    }
}
