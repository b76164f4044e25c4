// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One host made of several: each stream of the card leads to a stream of one of them.
//!
//! All of them live on CLOCK_MONOTONIC and are served at the same wake-ups, so streams of different
//! hosts keep one time.

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
}
