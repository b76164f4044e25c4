// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! When a card will be where, and how much of its buffer to fill: calculations only.

use crate::audio::Nanos;
use crate::time::{frames, time};
use crate::wire::Direction;

/// What the buffer holds beyond one period, in parts of a second: more than a tick of the slowest
/// clock that a card's pointer follows.
const MARGIN: u64 = 100;
/// The most that is put before a sound that comes too late, in parts of a second.
const LEAD: u64 = 200;
/// Shortest buffer to ask for, in parts of a second.
const SHORTEST_BUFFER: u64 = 5;
/// A pointer that lags behind its clock by more than this part of a second moves in steps.
const STEP: u64 = 2000;
/// A card this part of a second behind its clock has stood still: no pointer is that coarse.
const STANDSTILL: u64 = 10;
/// How long before a card runs dry its driver is looked at once more.
const NEARLY_DRY: Nanos = 1_000_000;
/// How slowly the clock follows a card that is slower than its rate.
const PATIENCE: u64 = 64;
/// How slowly a lag is forgotten: after so many looks, one frame of it.
const MEMORY: u64 = 32;

/// The clock of a card, as its pointer shows it.
///
/// A pointer never runs ahead of its card, but may lag: it moves when a burst has been fetched, a
/// timer has ticked, or only with the period's interrupt. The clock goes with the pointer where that
/// is furthest ahead, and knows how far it has been seen behind.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    rate: u64,
    position: u64,
    at: Nanos,
    /// In parts of a frame: see [`MEMORY`].
    lag: u64,
}

impl Clock {
    /// A clock that has not been started.
    pub fn new(rate: u32) -> Self {
        Self {
            rate: u64::from(rate).max(1),
            position: 0,
            at: 0,
            lag: 0,
        }
    }

    /// The card is at `position` now, and goes on from there.
    pub fn set(&mut self, position: u64, now: Nanos) {
        self.position = position;
        self.at = now;
    }

    /// Where the card is taken to be.
    pub fn position(&self, now: Nanos) -> u64 {
        let run = frames(now.saturating_sub(self.at), self.rate);
        self.position.saturating_add(run)
    }

    /// The pointer was read.
    pub fn saw(&mut self, position: u64, now: Nanos) {
        let behind = self.position(now).saturating_sub(position);
        if behind == 0 || behind > self.rate / STANDSTILL {
            self.set(position, now);
        } else {
            self.at = self.at.saturating_add(time(behind, self.rate) / PATIENCE);
        }
        if behind <= self.rate / STANDSTILL {
            self.lag = (behind * MEMORY).max(self.lag.saturating_sub(1));
        }
    }

    /// The most frames that the pointer is expected behind its clock.
    pub fn lag(&self) -> u64 {
        self.lag / MEMORY
    }

    /// Whether the pointer moves in steps that a timer would often come before.
    pub fn is_coarse(&self) -> bool {
        self.lag() > self.rate / STEP
    }

    /// When the pointer will have passed `position`.
    pub fn when(&self, position: u64) -> Nanos {
        let ahead = position
            .saturating_sub(self.position)
            .saturating_add(self.lag());
        // One more nanosecond: a time is rounded down.
        self.at.saturating_add(time(ahead, self.rate) + 1)
    }

    /// When a card whose buffer ends at `cursor` is about to run dry, at the earliest.
    pub fn nearly_dry(&self, cursor: u64) -> Nanos {
        let ahead = cursor.saturating_sub(self.position);
        let dry = self.at.saturating_add(time(ahead, self.rate));
        dry.saturating_sub(NEARLY_DRY)
    }
}

/// How a playback buffer is filled. Frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    buffer: u64,
    /// One period of the driver plus the margin.
    target: u64,
    /// Silence before a sound that comes when there is nothing to play.
    pub lead: u64,
}

impl Fill {
    /// For a driver with these periods and this buffer, on a card with `buffer` frames of its own.
    pub fn new(period: u64, driver_buffer: u64, buffer: u64, rate: u32) -> Self {
        let rate = u64::from(rate);
        Self {
            buffer,
            target: period.saturating_add(rate / MARGIN).min(buffer),
            // A short buffer of the driver is not to be waited for longer than it lasts.
            lead: (rate / LEAD).min(driver_buffer / 4).min(buffer / 2).max(1),
        }
    }

    /// How far to fill it: further where the pointer lags, for what it does not show has been
    /// played.
    pub fn target(&self, lag: u64) -> u64 {
        self.target.saturating_add(lag).min(self.buffer)
    }

    /// Below this, more is written even if no message of the driver ends. Beyond the margin only
    /// where the buffer is too short for a period.
    pub fn low(&self, lag: u64, rate: u32) -> u64 {
        (u64::from(rate) / MARGIN / 2)
            .min(self.target(lag) / 2)
            .saturating_add(lag)
            .min(self.target(lag) * 3 / 4)
    }
}

/// How many frames there are to be written or read when the pointer is at `position`, if none are
/// before. `None` where that cannot be waited for: what lies before it is not in the buffer yet, or
/// has been read.
pub fn available_at(direction: Direction, position: u64, cursor: u64, buffer: u64) -> Option<u64> {
    let frames = match direction {
        Direction::Playback => buffer.checked_sub(cursor.checked_sub(position)?)?,
        Direction::Capture => position.checked_sub(cursor)?,
    };
    (frames > 0).then_some(frames)
}

/// The card's buffer to ask for, in frames.
pub fn buffer_to_ask_for(period: u64, rate: u32) -> u64 {
    let rate = u64::from(rate);
    (2 * period + 2 * rate / MARGIN).max(rate / SHORTEST_BUFFER)
}

/// The periods of the card to try, best first: the driver's, or what divides it, so that a period of
/// the card ends wherever one of the driver does. Two have to fit into the card's buffer.
pub fn periods_to_try(period: u64, largest_buffer: u64) -> impl Iterator<Item = u64> {
    (1..=64u64)
        .filter(move |divisor| period.is_multiple_of(*divisor))
        .map(move |divisor| period / divisor)
        .filter(move |period| 2 * period <= largest_buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 48_000;
    const MILLISECOND: Nanos = 1_000_000;

    #[test]
    fn a_fine_pointer_is_expected_exactly() {
        let mut clock = Clock::new(RATE);
        clock.set(0, 5 * MILLISECOND);
        for period in 1..100 {
            let due = clock.when(period * 480);
            // Rounded up each time by a nanosecond.
            assert_eq!(due, (5 + period * 10) * MILLISECOND + period);
            clock.saw(period * 480, due);
        }
        assert_eq!(clock.lag(), 0);
        assert!(!clock.is_coarse());
    }

    #[test]
    fn a_pointer_that_ticks_is_found_past_the_position_at_the_first_look() {
        // A tick of 4 ms is 192 frames; periods are not multiples of it.
        let pointer = |now: Nanos| now / (4 * MILLISECOND) * 192;
        let mut clock = Clock::new(RATE);
        clock.set(0, 0);
        let mut early = 0;
        for period in 1..400 {
            let position = period * 500;
            let mut due = clock.when(position);
            while pointer(due) < position {
                early += 1;
                clock.saw(pointer(due), due);
                due = clock.when(position).max(due + MILLISECOND);
            }
            clock.saw(pointer(due), due);
        }
        assert!(clock.is_coarse());
        assert!(clock.lag() <= 2 * 192, "{}", clock.lag());
        assert!(early < 12, "{early} looks in vain");
    }

    #[test]
    fn a_slow_card_is_followed() {
        // 0.1 % slow: ten times worse than any crystal.
        let pointer = |now: Nanos| frames(now, 47_952);
        let mut clock = Clock::new(RATE);
        clock.set(0, 0);
        for wake in 1..10_000 {
            clock.saw(pointer(wake * 10 * MILLISECOND), wake * 10 * MILLISECOND);
        }
        assert!(clock.lag() < 48, "{}", clock.lag());
    }

    #[test]
    fn a_card_that_stood_still_is_no_coarse_pointer() {
        let mut clock = Clock::new(RATE);
        clock.set(0, 0);
        clock.saw(480, 1000 * MILLISECOND);
        assert_eq!(clock.lag(), 0);
        assert_eq!(clock.position(1010 * MILLISECOND), 960);
    }

    #[test]
    fn a_card_whose_interrupt_is_late_is_looked_at_before_it_is_dry() {
        let mut clock = Clock::new(RATE);
        clock.set(1776, 800 * MILLISECOND);
        clock.saw(1776, 803 * MILLISECOND);
        assert_eq!(clock.lag(), 144);
        clock.saw(2064, 803 * MILLISECOND);
        // Two periods of 240 frames are in the card. It may be through with them in 10 ms, however
        // far its pointer has been behind; the end of one is expected after almost 8 ms.
        assert!(clock.when(2304) > 810 * MILLISECOND);
        assert_eq!(clock.nearly_dry(2544), 812 * MILLISECOND);
        assert_eq!(clock.nearly_dry(2000), 802 * MILLISECOND);
    }

    #[test]
    fn a_lag_is_forgotten() {
        let mut clock = Clock::new(RATE);
        clock.set(0, 0);
        clock.saw(400, 10 * MILLISECOND);
        assert!(clock.lag() == 80 && clock.is_coarse());
        for wake in 2..3000 {
            clock.saw(wake * 480, wake * 10 * MILLISECOND);
        }
        assert!(!clock.is_coarse());
    }

    #[test]
    fn the_fill_is_one_period_and_a_margin() {
        let fill = Fill::new(2400, 9600, 9600, RATE);
        assert_eq!((fill.target(0), fill.lead), (2880, 240));
        assert_eq!(fill.target(192), 3072);
        assert!(fill.low(0, RATE) < fill.target(0) - 2400);
        assert!(fill.low(192, RATE) < fill.target(192) - 2400);
    }

    #[test]
    fn tiny_buffers_are_filled_and_looked_after_in_time() {
        let fill = Fill::new(2400, 9600, 256, RATE);
        assert_eq!((fill.target(0), fill.low(0, RATE)), (256, 128));
        assert_eq!(fill.low(200, RATE), 192);
        let fill = Fill::new(16, 32, 9600, RATE);
        assert_eq!((fill.target(0), fill.lead), (496, 8));
        let fill = Fill::new(1, 2, 2, 8000);
        assert_eq!((fill.target(0), fill.lead, fill.low(0, 8000)), (2, 1, 1));
    }

    #[test]
    fn the_cards_period_is_the_drivers_or_divides_it() {
        assert_eq!(
            periods_to_try(2400, 19_200).take(3).collect::<Vec<_>>(),
            [2400, 1200, 800]
        );
        assert_eq!(periods_to_try(2400, 1000).next(), Some(480));
        assert!(periods_to_try(480, 100_000).all(|period| 480 % period == 0));
        assert_eq!(periods_to_try(7, 4).collect::<Vec<_>>(), [1]);
        assert_eq!(periods_to_try(7, 1).count(), 0);
    }

    #[test]
    fn an_interrupt_is_waited_for_with_what_is_available_then() {
        use Direction::{Capture, Playback};
        // 1440 frames are written; at 480 there is room for all but 960 of them.
        assert_eq!(available_at(Playback, 480, 1440, 9600), Some(8640));
        assert_eq!(available_at(Playback, 1440, 1440, 9600), Some(9600));
        assert_eq!(available_at(Playback, 1441, 1440, 9600), None);
        assert_eq!(available_at(Playback, 0, 9600, 9600), None);
        assert_eq!(available_at(Capture, 1440, 960, 9600), Some(480));
        assert_eq!(available_at(Capture, 960, 960, 9600), None);
    }

    #[test]
    fn the_buffer_holds_two_periods_at_least() {
        assert_eq!(buffer_to_ask_for(480, RATE), 9600);
        assert_eq!(buffer_to_ask_for(12_000, RATE), 24_960);
    }
}
