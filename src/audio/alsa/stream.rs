// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One stream of the host: what its time comes from, and what it has to tell the log.

use super::hardware::Hardware;
use super::opener::{Opener, Pcm};
use crate::audio::{HostError, Nanos};
use crate::stream::Params;

/// What a stream's time comes from.
pub enum Place {
    /// Nothing: it needs no PCM now.
    Closed,
    /// Its position stands until the PCM is open; once it has been started, until this time.
    Opening(Option<Nanos>),
    /// The PCM.
    Open(Box<Hardware>),
    /// The clock, until the PCM can be opened.
    Missing,
}

/// A stream of the host.
pub struct Stream {
    /// What it plays on or captures from.
    pub pcm: Pcm,
    /// From PREPARE on.
    pub params: Option<Params>,
    /// What its time comes from.
    pub place: Place,
    /// START has come.
    pub running: bool,
    /// The order to open that is in force.
    pub ticket: u32,
    /// Position of the stream at position 0 of the clock.
    pub base: u64,
    /// Since when the stream does not run and has its PCM, or wants it.
    pub idle_since: Option<Nanos>,
    /// What the log is to be told.
    pub fault: Option<HostError>,
    /// The log was told that the PCM cannot be used.
    pub complained: bool,
    /// The log is to be told that the PCM can be used again.
    pub returned: bool,
}

impl Stream {
    /// A stream that needs no PCM yet.
    pub fn new(pcm: Pcm) -> Self {
        Self {
            pcm,
            params: None,
            place: Place::Closed,
            running: false,
            ticket: 0,
            base: 0,
            idle_since: None,
            fault: None,
            complained: false,
            returned: false,
        }
    }

    /// Tells the log, once until the PCM can be used again.
    pub fn complain(&mut self, error: HostError) {
        if !std::mem::replace(&mut self.complained, true) {
            self.fault = Some(error);
        }
    }

    /// The PCM, if it is open.
    pub fn hardware(&self) -> Option<&Hardware> {
        match &self.place {
            Place::Open(hardware) => Some(hardware),
            _ => None,
        }
    }

    /// The PCM, if it is open.
    pub fn hardware_mut(&mut self) -> Option<&mut Hardware> {
        match &mut self.place {
            Place::Open(hardware) => Some(hardware),
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

    /// Has the PCM opened, if the stream has parameters.
    pub fn open(&mut self, id: usize, opener: &mut Opener, again: bool) {
        if let Some(params) = &self.params {
            self.ticket = opener.open(id, params, again);
        }
    }

    /// Gives the PCM back, or stops asking for it.
    pub fn close(&mut self, id: usize, opener: &mut Opener) {
        match std::mem::replace(&mut self.place, Place::Closed) {
            Place::Open(hardware) => opener.close(hardware),
            Place::Opening(_) | Place::Missing => opener.cancel(id),
            Place::Closed => {}
        }
    }
}
