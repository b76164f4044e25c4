// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a card is, for those who ask from another thread.

use super::Card;
use crate::pcm::Tally;
use crate::stream::{Params, State};

/// How a stream is.
#[derive(Clone, Copy, Debug)]
pub struct StreamStatus {
    /// Where it is in its life.
    pub state: State,
    /// Its parameters, from SET_PARAMS on.
    pub params: Option<Params>,
    /// What it went through since START.
    pub tally: Tally,
}

/// How a card is.
#[derive(Debug)]
pub struct CardStatus {
    /// Whether a driver is there.
    pub driver: bool,
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
        };
        Self {
            driver: false,
            streams: vec![idle; streams],
            jacks: vec![false; jacks],
        }
    }
}

impl Card {
    /// Writes how the card is into the room of `status`.
    pub fn describe(&self, status: &mut CardStatus) {
        status.driver = self.memory.is_some() && !self.suspended;
        for (room, pcm) in status.streams.iter_mut().zip(&self.pcms) {
            *room = StreamStatus {
                state: pcm.state,
                params: pcm.params,
                tally: pcm.tally,
            };
        }
        for (room, jack) in status.jacks.iter_mut().zip(&self.jacks) {
            *room = jack.connected;
        }
    }
}
