// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plays to and captures from the graph of a PipeWire server.
//!
//! A stream takes part in the graph from START until a little after STOP: a policy that lets others
//! wait for it, lets them wait while there is sound. Where there is no server, or it goes away, the
//! stream goes on with a clock and silence; the log says so once. The same clock lets time pass for a
//! stream that the server lets wait, unless that is to wait itself.

mod cycle;
mod feed;
mod format;
mod line;
mod meter;
mod node;
mod pace;
mod server;
mod stream;

use std::os::fd::BorrowedFd;
use std::path::Path;

use nix::poll::PollFlags;

use super::clock::Clocked;
use super::null::Null;
use super::{Host, HostError, Nanos, Progress};
use crate::description::Stream as Described;
use crate::graph_node::{GraphNode, OnCork};
use crate::stream::Params;
use crate::system;
use crate::wire::PcmInfo;
use line::{Line, STANDING};
use node::Wish;
use server::{News, Server};
use stream::{Place, Stream};

/// How long a stopped stream stays in the graph: an application that only starts anew finds its way
/// there still open.
const IDLE: Nanos = 250_000_000;
/// How long a started stream waits for its place in the graph before the clock takes over. Linux tells an
/// application of an I/O error when nothing has moved for 100 ms; a period has to pass before.
const OPENING: Nanos = 50_000_000;

/// What the client library loads for every client (its `client-rt.conf`), below the folder that it is in itself.
const MODULES: [&str; 10] = [
    "spa-0.2/support/libspa-support.so",
    "spa-0.2/support/libspa-dbus.so",
    "spa-0.2/audioconvert/libspa-audioconvert.so",
    "pipewire-0.3/libpipewire-module-rt.so",
    "pipewire-0.3/libpipewire-module-protocol-native.so",
    "pipewire-0.3/libpipewire-module-client-node.so",
    "pipewire-0.3/libpipewire-module-client-device.so",
    "pipewire-0.3/libpipewire-module-adapter.so",
    "pipewire-0.3/libpipewire-module-metadata.so",
    "pipewire-0.3/libpipewire-module-session-manager.so",
];

/// Loads what the client library will load, so that a copy of this process need not: it is in the graph sooner.
/// Where something is missing or elsewhere, the client library finds that itself.
pub fn prepare() {
    let library = system::library_of(pipewire::sys::pw_init as *const _);
    let folder = library.as_deref().and_then(Path::parent);
    // A library that is part of this program has none.
    let Some(folder) = folder.filter(|folder| folder.is_absolute()) else {
        return;
    };
    for module in MODULES {
        system::keep_library(&folder.join(module));
    }
}

/// The host of `--host pipewire`.
pub struct PipeWire {
    infos: Vec<PcmInfo>,
    streams: Vec<Stream>,
    clock: Clocked<Null>,
    server: Server,
}

impl PipeWire {
    /// A host for these streams and their nodes; `id` is the place of a stream in its card.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new<'a>(
        nodes: impl IntoIterator<Item = (usize, &'a GraphNode, &'a Described)>,
    ) -> Result<Self, HostError> {
        let (mut infos, mut streams, mut wishes) = (Vec::new(), Vec::new(), Vec::new());
        for (id, node, description) in nodes {
            infos.push(format::offer(description.direction));
            streams.push(Stream::new(node.on_cork));
            wishes.push(Wish::new(id, node, description));
        }
        let (server, missing) = Server::start(wishes).map_err(HostError::ServerThread)?;
        if let Some(error) = missing {
            for stream in &mut streams {
                stream.complain(HostError::PipeWire(error.clone()));
            }
        }
        Ok(Self {
            clock: Clocked::new(Null::new(infos.clone())),
            infos,
            streams,
            server,
        })
    }

    fn line(&mut self, stream: usize) -> Option<&mut Line> {
        self.streams.get_mut(stream)?.line_mut()
    }

    fn base(&self, stream: usize) -> u64 {
        self.streams.get(stream).map_or(0, |stream| stream.base)
    }

    /// The clock takes the place of the graph, where the stream is: what the graph has not taken is
    /// not heard, and not copied again. Returns the stream's end in the graph.
    fn leave_graph(&mut self, id: usize, now: Nanos) -> Option<Box<Line>> {
        let stream = self.streams.get_mut(id)?;
        match std::mem::replace(&mut stream.place, Place::Missing) {
            Place::Open(mut line) => {
                let cursor = line.cursor();
                let position = line.abandon();
                stream.base = position.saturating_sub(self.clock.stop(id, now));
                self.clock
                    .write(id, cursor.saturating_sub(position), &mut |_| ());
                if stream.running {
                    // A clock does not fail.
                    let _ = self.clock.start(id, now);
                }
                Some(line)
            }
            Place::Corked(line) => Some(line),
            place => {
                stream.place = place;
                None
            }
        }
    }

    /// The graph lets the stream wait, and time passes.
    fn cork(&mut self, id: usize, now: Nanos) {
        if let Some(mut line) = self.leave_graph(id, now)
            && let Some(stream) = self.streams.get_mut(id)
        {
            line.listen(now);
            stream.place = Place::Corked(line);
        }
    }

    /// From here on the stream's time is the graph's, which has been waited for since `since`.
    fn enter_graph(&mut self, id: usize, mut line: Box<Line>, since: Nanos, now: Nanos) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let position = self.clock.progress(id, now).position;
        let cursor = self.clock.cursor(id).max(position);
        self.clock.stop(id, now);
        line.place(stream.base.saturating_add(cursor));
        if stream.running {
            line.start(since);
        }
        stream.place = Place::Open(line);
    }

    /// The server is not there, or refuses the stream: the clock goes on until it is.
    fn go_without(&mut self, id: usize, now: Nanos) {
        if let Some(line) = self.leave_graph(id, now) {
            self.server.bury(line);
        }
        if let Some(stream) = self.streams.get_mut(id)
            && let Place::Opening(_) = stream.place
        {
            stream.place = Place::Missing;
            if stream.running {
                let _ = self.clock.start(id, now);
            }
        }
    }

    /// The position stands until there is a place in the graph. What the graph had not taken of an
    /// earlier one is lost with it.
    fn hold(&mut self, id: usize, now: Nanos) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let clock = self.clock.stop(id, now);
        match std::mem::replace(&mut stream.place, Place::Opening(None)) {
            Place::Open(mut line) => {
                stream.base = line.cursor().saturating_sub(clock);
                line.halt();
                self.server.bury(line);
            }
            Place::Corked(line) => self.server.bury(line),
            Place::Closed => stream.place = Place::Closed,
            Place::Opening(_) | Place::Missing => {}
        }
    }

    fn hear(&mut self, news: News, now: Nanos) {
        let id = news.stream;
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let awaited = news.ticket == stream.ticket && !matches!(stream.place, Place::Closed);
        match news.result {
            Ok(line) if awaited => {
                stream.recover();
                self.welcome(id, line, now);
            }
            Ok(line) => self.server.bury(line),
            Err(error) if awaited => {
                // A server that has nothing to play to lets the stream wait, too.
                let holds = stream.on_cork == OnCork::Hold && !news.gone;
                stream.complain(error);
                if holds {
                    self.hold(id, now);
                } else {
                    self.go_without(id, now);
                }
            }
            Err(_) => {}
        }
    }

    /// The stream is in the graph. Where a clock has taken its place, that goes on until the graph comes.
    fn welcome(&mut self, id: usize, mut line: Box<Line>, now: Nanos) {
        let Some(stream) = self.streams.get_mut(id) else {
            return self.server.bury(line);
        };
        match stream.place {
            Place::Missing if stream.on_cork == OnCork::Drain && stream.running => {
                line.listen(now);
                stream.place = Place::Corked(line);
            }
            Place::Opening(_) => {
                let since = stream.started;
                self.enter_graph(id, line, since, now);
            }
            _ => self.enter_graph(id, line, now, now),
        }
    }

    /// Looks whether the graph lets the stream wait, or has come back to it.
    fn follow_graph(&mut self, id: usize, now: Nanos) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let on_cork = stream.on_cork;
        match &mut stream.place {
            Place::Opening(Some(until)) if now >= *until => self.go_without(id, now),
            Place::Open(line) => {
                let stands = stream.running && line.stands(now);
                if stands && on_cork == OnCork::Drain {
                    self.cork(id, now);
                }
            }
            Place::Corked(line) if line.is_back(now) => {
                if let Place::Corked(line) = std::mem::replace(&mut stream.place, Place::Missing) {
                    self.enter_graph(id, line, now, now);
                }
            }
            _ => {}
        }
    }
}

impl Host for PipeWire {
    fn streams(&self) -> &[PcmInfo] {
        &self.infos
    }

    fn prepare(&mut self, id: usize, params: &Params) -> Result<(), HostError> {
        self.clock.prepare(id, params)?;
        pace::check(params)?;
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(());
        };
        stream.base = 0;
        stream.running = false;
        let same = stream.params.replace(*params) == Some(*params);
        match std::mem::replace(&mut stream.place, Place::Closed) {
            Place::Open(mut line) | Place::Corked(mut line) if same => {
                line.halt();
                line.place(0);
                stream.place = Place::Open(line);
            }
            place => {
                stream.place = place;
                stream.close(id, &mut self.server);
                stream.idle_since = None;
            }
        }
        Ok(())
    }

    fn start(&mut self, id: usize, now: Nanos) -> Result<(), HostError> {
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(());
        };
        stream.running = true;
        stream.idle_since = None;
        stream.started = now;
        let end = match stream.on_cork {
            OnCork::Drain => Some(now.saturating_add(OPENING)),
            OnCork::Hold => None,
        };
        match &mut stream.place {
            Place::Open(line) => line.start(now),
            Place::Corked(_) | Place::Missing => return self.clock.start(id, now),
            Place::Opening(until) => *until = end,
            Place::Closed => {
                stream.place = Place::Opening(end);
                stream.open(id, &mut self.server);
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
            Place::Open(line) => return line.halt(),
            Place::Opening(until) => *until = None,
            Place::Corked(_) | Place::Missing | Place::Closed => {}
        }
        self.clock.stop(id, now).saturating_add(stream.base)
    }

    fn release(&mut self, id: usize) {
        self.clock.release(id);
    }

    fn progress(&mut self, id: usize, now: Nanos) -> Progress {
        self.follow_graph(id, now);
        if let Some(line) = self.line(id) {
            return line.progress(now);
        }
        let progress = self.clock.progress(id, now);
        Progress {
            position: progress.position.saturating_add(self.base(id)),
            ..progress
        }
    }

    fn cursor(&self, id: usize) -> u64 {
        match self.streams.get(id).and_then(Stream::line) {
            Some(line) => line.cursor(),
            None => self.base(id).saturating_add(self.clock.cursor(id)),
        }
    }

    fn write(&mut self, id: usize, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        match self.line(id) {
            Some(line) => line.write(frames, fill),
            None => self.clock.write(id, frames, fill),
        }
    }

    fn read(&mut self, id: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) -> u64 {
        match self.line(id) {
            Some(line) => line.read(frames, drain),
            None => self.clock.read(id, frames, drain),
        }
    }

    fn starve(&mut self, id: usize, frames: u64, now: Nanos) -> u64 {
        match self.line(id) {
            Some(line) => line.starve(now),
            None => self.clock.starve(id, frames, now),
        }
    }

    fn lost(&mut self, id: usize) -> u64 {
        self.line(id).map_or(0, Line::lost)
    }

    fn expect(&mut self, id: usize, position: u64) {
        if let Some(line) = self.line(id) {
            line.expect(position);
        }
    }

    fn wakers<'a>(&'a self, wait: &mut dyn FnMut(BorrowedFd<'a>, PollFlags)) {
        wait(self.server.alarm(), PollFlags::POLLIN);
    }

    fn wake(&mut self, now: Nanos) {
        self.server.quiet();
        while let Some(news) = self.server.news() {
            self.hear(news, now);
        }
    }

    fn when(&self, id: usize, position: u64, now: Nanos) -> Nanos {
        let Some(stream) = self.streams.get(id) else {
            return now.saturating_add(1);
        };
        match &stream.place {
            Place::Open(line) => line.when(position, now),
            Place::Opening(until) => until.unwrap_or(now.saturating_add(STANDING)),
            _ => self
                .clock
                .when(id, position.saturating_sub(stream.base), now),
        }
    }

    fn upkeep(&self, id: usize, _now: Nanos) -> Option<Nanos> {
        let stream = self.streams.get(id)?;
        let idle = stream
            .idle_since
            .filter(|_| !matches!(stream.place, Place::Closed));
        if let Some(since) = idle {
            return Some(since.saturating_add(IDLE));
        }
        let line = stream.line().and_then(Line::upkeep);
        line.or(stream.waits_until())
    }

    fn rest(&mut self, id: usize, now: Nanos) {
        let Some(stream) = self.streams.get_mut(id) else {
            return;
        };
        let idle = |since: Nanos| now >= since.saturating_add(IDLE);
        if stream.idle_since.is_some_and(idle) {
            stream.idle_since = None;
            if let Place::Open(line) = &stream.place {
                let clock = self.clock.stop(id, now);
                stream.base = line.cursor().saturating_sub(clock);
            }
            stream.close(id, &mut self.server);
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
