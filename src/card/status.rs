// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a card is, for those who ask from another thread.

use super::Card;
use crate::audio::Nanos;
use crate::meter::Peaks;
use crate::pcm::Tally;
use crate::stream::{Params, State};

/// How a stream is.
#[derive(Clone, Copy, Debug)]
pub struct StreamStatus {
    /// Where it is in its life.
    pub state: State,
    /// Its parameters, from SET_PARAMS on.
    pub params: Option<Params>,
    /// What it went through since PREPARE.
    pub tally: Tally,
    /// How loud it was since the last question; `None` where that is too long ago.
    pub peaks: Option<Peaks>,
    /// Frames between the driver's newest sample and the loudspeaker, or between the microphone and
    /// the driver; 0 while it stands.
    pub delay: u64,
    /// Its host has failed and is not back.
    pub away: bool,
}

/// How a card is.
#[derive(Debug)]
pub struct CardStatus {
    /// Whether a driver is there.
    pub driver: bool,
    /// Whether one has ever been there.
    pub used: bool,
    /// Its streams.
    pub streams: Vec<StreamStatus>,
    /// Its jacks: whether something is plugged in.
    pub jacks: Vec<bool>,
}

impl CardStatus {
    /// Room for the status of so many streams and jacks.
    pub fn new(streams: usize, jacks: usize) -> Self {
        let idle = StreamStatus {
            state: State::Idle,
            params: None,
            tally: Tally::default(),
            peaks: None,
            delay: 0,
            away: false,
        };
        Self {
            driver: false,
            used: false,
            streams: vec![idle; streams],
            jacks: vec![false; jacks],
        }
    }
}

impl Card {
    /// Writes how the card is into the room of `status`.
    pub fn describe(&mut self, status: &mut CardStatus, now: Nanos) {
        status.used = self.memory.is_some();
        status.driver = status.used && !self.suspended;
        for (room, pcm) in status.streams.iter_mut().zip(&mut self.pcms) {
            let runs = pcm.state == State::Running && !self.suspended;
            *room = StreamStatus {
                state: pcm.state,
                params: pcm.params,
                tally: pcm.tally,
                peaks: pcm.meter.ask(now),
                delay: match runs {
                    true => pcm.delay(&mut *self.host, now),
                    false => 0,
                },
                away: pcm.away,
            };
        }
        for (room, jack) in status.jacks.iter_mut().zip(&self.jacks) {
            *room = jack.connected;
        }
    }
}
