// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How much is given back at a time: never all of the driver's buffer.
//!
//! ALSA knows the position in a buffer, not how often it has gone round. A driver that is given back a
//! whole buffer at once is where it was before: nothing seems to have been played, nobody is woken, and
//! the application's next write fails with EIO. That would happen to a process that comes late by a
//! whole buffer, as after the system's sleep. So the message that makes a buffer complete waits until
//! the driver has had time to look.

use crate::audio::Nanos;
use crate::stream::Params;

/// More than a driver needs to look at its position, be its machine ever so busy.
const LOOK_MAX: Nanos = 10_000_000;

/// What has been given back within a short time.
#[derive(Default)]
pub struct Batch {
    since: Nanos,
    bytes: u64,
}

impl Batch {
    /// How long a message may wait: of two periods, half a period, so that one that is given back in
    /// time never does.
    fn window(params: &Params) -> Nanos {
        let others = params.buffer_bytes.saturating_sub(params.period_bytes);
        (params.nanos(others) / 2).min(LOOK_MAX)
    }

    /// When a message of so many bytes may be given back.
    pub fn open_from(&self, params: &Params, bytes: u32) -> Nanos {
        let all = self.bytes.saturating_add(bytes.into());
        if self.bytes == 0 || all < u64::from(params.buffer_bytes) {
            return 0;
        }
        self.since.saturating_add(Self::window(params))
    }

    /// Counts a message of so many bytes.
    pub fn add(&mut self, params: &Params, bytes: u32, now: Nanos) {
        if now >= self.since.saturating_add(Self::window(params)) {
            *self = Self {
                since: now,
                bytes: 0,
            };
        }
        self.bytes = self.bytes.saturating_add(bytes.into());
    }
}
