// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Times and frames, and the clock that all streams go by.

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// A time of CLOCK_MONOTONIC, or how long something takes, in nanoseconds.
pub type Nanos = u64;

const SECOND: u128 = 1_000_000_000;

/// `frames` frames of a sound with this rate as a time, rounded down.
pub fn time(frames: u64, rate: u64) -> Nanos {
    let nanos = u128::from(frames) * SECOND / u128::from(rate.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// The frames of a time, rounded down.
pub fn frames(time: Nanos, rate: u64) -> u64 {
    let frames = u128::from(time) * u128::from(rate) / SECOND;
    u64::try_from(frames).unwrap_or(u64::MAX)
}

/// CLOCK_MONOTONIC.
pub fn now() -> Nanos {
    read(ClockId::CLOCK_MONOTONIC)
}

/// Any clock.
pub fn read(clock: ClockId) -> Nanos {
    let time = clock_gettime(clock).unwrap_or(TimeSpec::new(0, 0));
    let (seconds, nanos) = (time.tv_sec().unsigned_abs(), time.tv_nsec().unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
