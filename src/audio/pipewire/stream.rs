// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One stream of the host: what its time comes from, and what it has to tell the log.

use super::line::Line;
use super::server::Server;
use crate::audio::{HostError, Nanos};
use crate::graph_node::OnCork;
use crate::stream::Params;

/// What a stream's time comes from.
pub enum Place {
    /// Nothing: it needs no place in the graph now.
    Closed,
    /// Its position stands until it is in the graph; once it has been started, until this time, or for
    /// as long as it takes.
    Opening(Option<Nanos>),
    /// The graph.
    Open(Box<Line>),
    /// The clock, while the graph lets it wait.
    Corked(Box<Line>),
    /// The clock, until there is a server.
    Missing,
}

/// A stream of the host.
pub struct Stream {
    /// What happens while the graph lets it wait.
    pub on_cork: OnCork,
    /// From PREPARE on.
    pub params: Option<Params>,
    /// What its time comes from.
    pub place: Place,
    /// START has come.
    pub running: bool,
    /// When it came.
    pub started: Nanos,
    /// The order to open that is in force.
    pub ticket: u32,
    /// Position of the stream at position 0 of the clock.
    pub base: u64,
    /// When the stream was stopped.
    pub idle_since: Option<Nanos>,
    /// What the log is to be told.
    pub fault: Option<HostError>,
    /// The log was told that there is no server.
    pub complained: bool,
    /// The log is to be told that there is one again.
    pub returned: bool,
}

impl Stream {
    /// A stream that needs no place in the graph yet.
    pub fn new(on_cork: OnCork) -> Self {
        Self {
            on_cork,
            params: None,
            place: Place::Closed,
            running: false,
            started: 0,
            ticket: 0,
            base: 0,
            idle_since: None,
            fault: None,
            complained: false,
            returned: false,
        }
    }

    /// Tells the log, once until all is well again.
    pub fn complain(&mut self, error: HostError) {
        if !std::mem::replace(&mut self.complained, true) {
            self.fault = Some(error);
        }
    }

    /// All is well.
    pub fn recover(&mut self) {
        if std::mem::take(&mut self.complained) {
            // A fault that has not been fetched yet is told first.
            self.returned = true;
        }
    }

    /// The stream in the graph, if its time comes from there.
    pub fn line(&self) -> Option<&Line> {
        match &self.place {
            Place::Open(line) => Some(line),
            _ => None,
        }
    }

    /// The stream in the graph, if its time comes from there.
    pub fn line_mut(&mut self) -> Option<&mut Line> {
        match &mut self.place {
            Place::Open(line) => Some(line),
            _ => None,
        }
    }

    /// When the position no longer stands.
    pub fn waits_until(&self) -> Option<Nanos> {
        match self.place {
            Place::Opening(until) => until,
            _ => None,
        }
    }

    /// Asks for a place in the graph, if the stream has parameters.
    pub fn open(&mut self, id: usize, server: &mut Server) {
        if let Some(params) = &self.params {
            self.ticket = server.open(id, params);
        }
    }

    /// Gives the place in the graph back, or stops asking for it.
    pub fn close(&mut self, id: usize, server: &mut Server) {
        match std::mem::replace(&mut self.place, Place::Closed) {
            Place::Open(line) | Place::Corked(line) => server.close(id, Some(line)),
            Place::Opening(_) | Place::Missing => server.close(id, None),
            Place::Closed => {}
        }
    }
}
