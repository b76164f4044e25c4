// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One host made of several: each stream of the card leads to a stream of one of them.
//!
//! All of them live on CLOCK_MONOTONIC and are served at the same wake-ups, so streams of different
//! hosts keep one time.

use std::os::fd::BorrowedFd;

use nix::poll::PollFlags;

use super::{Host, HostError, Nanos, Progress};
use crate::stream::Params;
use crate::wire::PcmInfo;

/// Where a stream of the card leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which host.
    pub host: usize,
    /// Which of its streams.
    pub stream: usize,
}

/// The hosts behind a card.
#[derive(Default)]
pub struct Routes {
    hosts: Vec<Box<dyn Host>>,
    routes: Vec<Route>,
    infos: Vec<PcmInfo>,
}

impl Routes {
    /// Adds a host, which no stream leads to yet; returns its number.
    pub fn add_host(&mut self, host: Box<dyn Host>) -> usize {
        self.hosts.push(host);
        self.hosts.len() - 1
    }

    /// What a host's stream can do.
    pub fn offered(&self, route: Route) -> Option<PcmInfo> {
        let host = self.hosts.get(route.host)?;
        host.streams().get(route.stream).copied()
    }

    /// Adds the next stream of the card, which offers `info`.
    pub fn add_stream(&mut self, route: Route, info: PcmInfo) {
        self.routes.push(route);
        self.infos.push(info);
    }

    fn lead(&self, stream: usize) -> Option<(&dyn Host, usize)> {
        let route = self.routes.get(stream)?;
        let host = self.hosts.get(route.host)?;
        Some((&**host, route.stream))
    }

    fn lead_mut(&mut self, stream: usize) -> Option<(&mut dyn Host, usize)> {
        let route = self.routes.get(stream)?;
        let host = self.hosts.get_mut(route.host)?;
        Some((&mut **host, route.stream))
    }
}

impl Host for Routes {
    fn streams(&self) -> &[PcmInfo] {
        &self.infos
    }

    fn inherit(&mut self, stream: usize, frames: u64) {
        if let Some((host, stream)) = self.lead_mut(stream) {
            host.inherit(stream, frames);
        }
    }

    fn prepare(&mut self, stream: usize, params: &Params) -> Result<(), HostError> {
        self.lead_mut(stream)
            .map_or(Ok(()), |(host, stream)| host.prepare(stream, params))
    }

    fn start(&mut self, stream: usize, now: Nanos) -> Result<(), HostError> {
        self.lead_mut(stream)
            .map_or(Ok(()), |(host, stream)| host.start(stream, now))
    }

    fn stop(&mut self, stream: usize, now: Nanos) -> u64 {
        self.lead_mut(stream)
            .map_or(0, |(host, stream)| host.stop(stream, now))
    }

    fn release(&mut self, stream: usize) {
        if let Some((host, stream)) = self.lead_mut(stream) {
            host.release(stream);
        }
    }

    fn progress(&mut self, stream: usize, now: Nanos) -> Progress {
        self.lead_mut(stream)
            .map_or_else(Progress::default, |(host, stream)| {
                host.progress(stream, now)
            })
    }

    fn cursor(&self, stream: usize) -> u64 {
        self.lead(stream)
            .map_or(0, |(host, stream)| host.cursor(stream))
    }

    fn write(&mut self, stream: usize, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        self.lead_mut(stream)
            .map_or(0, |(host, stream)| host.write(stream, frames, fill))
    }

    fn read(&mut self, stream: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) -> u64 {
        self.lead_mut(stream)
            .map_or(0, |(host, stream)| host.read(stream, frames, drain))
    }

    fn starve(&mut self, stream: usize, frames: u64, now: Nanos) -> u64 {
        self.lead_mut(stream)
            .map_or(0, |(host, stream)| host.starve(stream, frames, now))
    }

    fn lost(&mut self, stream: usize) -> u64 {
        self.lead_mut(stream)
            .map_or(0, |(host, stream)| host.lost(stream))
    }

    fn expect(&mut self, stream: usize, position: u64) {
        if let Some((host, stream)) = self.lead_mut(stream) {
            host.expect(stream, position);
        }
    }

    fn wakers<'a>(&'a self, wait: &mut dyn FnMut(BorrowedFd<'a>, PollFlags)) {
        for host in &self.hosts {
            host.wakers(wait);
        }
    }

    fn wake(&mut self, now: Nanos) {
        for host in &mut self.hosts {
            host.wake(now);
        }
    }

    fn when(&self, stream: usize, position: u64, now: Nanos) -> Nanos {
        self.lead(stream)
            .map_or(now.saturating_add(1), |(host, stream)| {
                host.when(stream, position, now)
            })
    }

    fn upkeep(&self, stream: usize, now: Nanos) -> Option<Nanos> {
        self.lead(stream)
            .and_then(|(host, stream)| host.upkeep(stream, now))
    }

    fn rest(&mut self, stream: usize, now: Nanos) {
        if let Some((host, stream)) = self.lead_mut(stream) {
            host.rest(stream, now);
        }
    }

    fn fault(&mut self, stream: usize) -> Option<HostError> {
        self.lead_mut(stream)
            .and_then(|(host, stream)| host.fault(stream))
    }

    fn returned(&mut self, stream: usize) -> bool {
        self.lead_mut(stream)
            .is_some_and(|(host, stream)| host.returned(stream))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::pcm_format;
    use crate::wire::Direction;

    type Calls = Arc<Mutex<Vec<(char, &'static str, usize)>>>;

    /// Notes each call with its name and stream; answers with numbers that tell which host it is.
    struct Noting(char, Vec<PcmInfo>, Calls, std::fs::File);

    impl Noting {
        fn note(&self, call: &'static str, stream: usize) {
            self.2.lock().unwrap().push((self.0, call, stream));
        }

        fn number(&self) -> u64 {
            u64::from(u32::from(self.0))
        }
    }

    impl Host for Noting {
        fn streams(&self) -> &[PcmInfo] {
            &self.1
        }
        fn prepare(&mut self, stream: usize, _params: &Params) -> Result<(), HostError> {
            self.note("prepare", stream);
            Err(fault())
        }
        fn start(&mut self, stream: usize, _now: Nanos) -> Result<(), HostError> {
            self.note("start", stream);
            Err(fault())
        }
        fn stop(&mut self, stream: usize, _now: Nanos) -> u64 {
            self.note("stop", stream);
            self.number()
        }
        fn release(&mut self, stream: usize) {
            self.note("release", stream);
        }
        fn progress(&mut self, stream: usize, _now: Nanos) -> Progress {
            self.note("progress", stream);
            Progress {
                position: self.number(),
                ..Progress::default()
            }
        }
        fn cursor(&self, stream: usize) -> u64 {
            self.note("cursor", stream);
            self.number()
        }
        fn write(&mut self, stream: usize, _frames: u64, _fill: &mut dyn FnMut(&mut [u8])) -> u64 {
            self.note("write", stream);
            self.number()
        }
        fn read(&mut self, stream: usize, _frames: u64, _drain: &mut dyn FnMut(&[u8])) -> u64 {
            self.note("read", stream);
            self.number()
        }
        fn starve(&mut self, stream: usize, _frames: u64, _now: Nanos) -> u64 {
            self.note("starve", stream);
            self.number()
        }
        fn expect(&mut self, stream: usize, _position: u64) {
            self.note("expect", stream);
        }
        fn wakers<'a>(&'a self, wait: &mut dyn FnMut(BorrowedFd<'a>, PollFlags)) {
            wait(self.3.as_fd(), PollFlags::POLLIN);
        }
        fn wake(&mut self, _now: Nanos) {
            self.note("wake", 0);
        }
        fn when(&self, stream: usize, _position: u64, _now: Nanos) -> Nanos {
            self.note("when", stream);
            self.number()
        }
        fn upkeep(&self, stream: usize, _now: Nanos) -> Option<Nanos> {
            self.note("upkeep", stream);
            Some(self.number())
        }
        fn rest(&mut self, stream: usize, _now: Nanos) {
            self.note("rest", stream);
        }
        fn fault(&mut self, stream: usize) -> Option<HostError> {
            self.note("fault", stream);
            Some(fault())
        }
    }

    fn fault() -> HostError {
        HostError::Wav {
            path: String::new(),
            reason: "test",
        }
    }

    const INFO: PcmInfo = PcmInfo {
        device: 0,
        formats: 1,
        rates: 1,
        direction: Direction::Playback,
        channels_min: 1,
        channels_max: 1,
        features: 0,
    };

    /// Streams 0, 1 and 2 of the card lead to stream 1 of b, 0 of a and 0 of b.
    fn routes(calls: &Calls) -> Routes {
        let mut routes = Routes::default();
        let infos = vec![INFO; 2];
        for name in ['a', 'b'] {
            let file = tempfile::tempfile().unwrap();
            routes.add_host(Box::new(Noting(
                name,
                infos.clone(),
                Arc::clone(calls),
                file,
            )));
        }
        for (host, stream) in [(1, 1), (0, 0), (1, 0)] {
            let info = PcmInfo { device: 5, ..INFO };
            routes.add_stream(Route { host, stream }, info);
        }
        routes
    }

    #[test]
    fn every_call_reaches_the_stream_behind_and_answers_come_back() {
        let calls = Calls::default();
        let mut routes = routes(&calls);
        let params = Params {
            format: pcm_format::U8,
            rate: 8000,
            channels: 1,
            buffer_bytes: 2,
            period_bytes: 1,
            features: 0,
        };
        assert!(routes.prepare(0, &params).is_err() && routes.start(0, 0).is_err());
        let b = u64::from(u32::from('b'));
        assert_eq!(
            [routes.stop(0, 0), routes.cursor(0), routes.when(0, 0, 0)],
            [b; 3]
        );
        assert_eq!(
            [
                routes.write(0, 1, &mut |_| ()),
                routes.read(0, 1, &mut |_| ())
            ],
            [b; 2]
        );
        assert_eq!(
            [routes.starve(0, 1, 0), routes.progress(0, 0).position],
            [b; 2]
        );
        assert_eq!(routes.upkeep(0, 0), Some(b));
        routes.expect(0, 0);
        routes.rest(0, 0);
        routes.release(0);
        assert!(routes.fault(0).is_some());
        let names = [
            "prepare", "start", "stop", "cursor", "when", "write", "read", "starve", "progress",
            "upkeep", "expect", "rest", "release", "fault",
        ];
        assert_eq!(*calls.lock().unwrap(), names.map(|name| ('b', name, 1)));
        calls.lock().unwrap().clear();
        routes.stop(1, 0);
        routes.stop(2, 0);
        assert_eq!(*calls.lock().unwrap(), [('a', "stop", 0), ('b', "stop", 0)]);
    }

    #[test]
    fn every_host_wakes_the_card_and_is_woken_once() {
        let calls = Calls::default();
        let mut routes = routes(&calls);
        let mut count = 0;
        routes.wakers(&mut |_, _| count += 1);
        routes.wake(0);
        assert_eq!(count, 2);
        assert_eq!(*calls.lock().unwrap(), [('a', "wake", 0), ('b', "wake", 0)]);
    }

    #[test]
    fn the_card_offers_what_it_was_told_and_ignores_streams_that_do_not_exist() {
        let calls = Calls::default();
        let mut routes = routes(&calls);
        assert_eq!(routes.streams().len(), 3);
        assert_eq!(routes.streams()[2].device, 5);
        assert_eq!(routes.offered(Route { host: 0, stream: 1 }), Some(INFO));
        assert_eq!(routes.offered(Route { host: 2, stream: 0 }), None);
        assert_eq!(
            (routes.stop(3, 0), routes.upkeep(3, 7), routes.when(3, 0, 7)),
            (0, None, 8)
        );
        assert!(routes.fault(3).is_none() && calls.lock().unwrap().is_empty());
    }
}
