// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What to offer of a card on which not everything goes with everything: a calculation.
//!
//! virtio describes a stream by formats, rates and channels, each of which an application may combine
//! with each. A card may have 192 kHz with two channels only. It is then offered without what goes
//! with the least of the rest, so that no application meets an error; a card file that asks for less
//! chooses otherwise.

use std::ops::RangeInclusive;

use crate::pcm_format::{self, Format};

/// What nearly every application asks for; given up last.
const USUAL: (Format, u32, u8) = (pcm_format::S16, 48_000, 2);

/// Formats, rates and numbers of channels. Empty where nothing works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Sample formats.
    pub formats: Vec<Format>,
    /// Frames per second.
    pub rates: Vec<u32>,
    /// Samples per frame.
    pub channels: RangeInclusive<u8>,
}

/// One of the things to give up.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Format(Format),
    Rate(u32),
    Channels(u8),
}

impl Part {
    fn is_usual(self) -> bool {
        let (format, rate, channels) = USUAL;
        match self {
            Self::Format(this) => this == format,
            Self::Rate(this) => this == rate,
            Self::Channels(this) => this == channels,
        }
    }

    fn is_in(self, (format, rate, channels): (Format, u32, u8)) -> bool {
        match self {
            Self::Format(this) => this == format,
            Self::Rate(this) => this == rate,
            Self::Channels(this) => this == channels,
        }
    }
}

impl Offer {
    /// The part of this offer in which everything works with everything.
    pub fn that_works(mut self, mut works: impl FnMut(Format, u32, u8) -> bool) -> Self {
        let mut failing: Vec<_> = self
            .combinations()
            .filter(|&(format, rate, channels)| !works(format, rate, channels))
            .collect();
        while !failing.is_empty() {
            let Some(part) = self.worst(&failing) else {
                break;
            };
            self.give_up(part, &failing);
            failing.retain(|&(format, rate, channels)| self.has(format, rate, channels));
        }
        self
    }

    fn combinations(&self) -> impl Iterator<Item = (Format, u32, u8)> {
        self.formats.iter().flat_map(move |&format| {
            let rates = self.rates.iter();
            rates.flat_map(move |&rate| {
                let channels = self.channels.clone();
                channels.map(move |channels| (format, rate, channels))
            })
        })
    }

    fn has(&self, format: Format, rate: u32, channels: u8) -> bool {
        self.formats.contains(&format)
            && self.rates.contains(&rate)
            && self.channels.contains(&channels)
    }

    /// What fails with the largest share of the rest.
    fn worst(&self, failing: &[(Format, u32, u8)]) -> Option<Part> {
        let formats = self.formats.iter().copied().map(Part::Format);
        let rates = self.rates.iter().copied().map(Part::Rate);
        let channels = self.channels.clone().map(Part::Channels);
        let share = |part: &Part| {
            let fails = failing.iter().filter(|&&one| part.is_in(one)).count();
            let all = self.combinations().filter(|&one| part.is_in(one)).count();
            let kept = part.is_usual() && fails < all;
            (!kept, fails * 1000 / all.max(1))
        };
        formats.chain(rates).chain(channels).max_by_key(share)
    }

    fn give_up(&mut self, part: Part, failing: &[(Format, u32, u8)]) {
        match part {
            Part::Format(this) => self.formats.retain(|&format| format != this),
            Part::Rate(this) => self.rates.retain(|&rate| rate != this),
            Part::Channels(this) => {
                // What remains has to be without a hole: the side on which more works stays, or that
                // of stereo.
                let (first, last) = (*self.channels.start(), *self.channels.end());
                let below = first..=this.saturating_sub(1);
                let above = this.saturating_add(1)..=last;
                let value = |side: &RangeInclusive<u8>| {
                    let fails = |channels| failing.iter().filter(|one| one.2 == channels).count();
                    let all = self.formats.len() * self.rates.len();
                    let works: usize = side.clone().map(|channels| all - fails(channels)).sum();
                    let stereo = side.contains(&USUAL.2) && fails(USUAL.2) < all;
                    (stereo, works)
                };
                self.channels = if value(&below) >= value(&above) {
                    below
                } else {
                    above
                };
            }
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.formats.is_empty() || self.rates.is_empty() || self.channels.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm_format::{S16, S24_3, S32, U8};

    fn all() -> Offer {
        Offer {
            formats: vec![U8, S16, S24_3, S32],
            rates: vec![44_100, 48_000, 96_000, 192_000],
            channels: 1..=8,
        }
    }

    /// Whatever is left works, and nothing was given up where everything did.
    fn check(works: impl Fn(Format, u32, u8) -> bool + Copy) -> Offer {
        let offer = all().that_works(works);
        for (format, rate, channels) in offer.combinations() {
            assert!(works(format, rate, channels));
        }
        offer
    }

    #[test]
    fn all_is_offered_where_all_works() {
        assert_eq!(check(|_, _, _| true), all());
    }

    #[test]
    fn a_rate_of_two_channels_only_is_given_up_not_the_channels() {
        let offer = check(|_, rate, channels| rate < 192_000 || channels <= 2);
        let wanted = Offer {
            rates: vec![44_100, 48_000, 96_000],
            ..all()
        };
        assert_eq!(offer, wanted);
    }

    #[test]
    fn a_hole_in_the_channels_leaves_the_side_of_stereo() {
        assert_eq!(
            check(|_, _, channels| matches!(channels, 1 | 2 | 8)).channels,
            1..=2
        );
        assert_eq!(check(|_, _, channels| channels % 2 == 0).channels, 2..=2);
        assert_eq!(check(|_, _, channels| channels >= 4).channels, 4..=8);
    }

    #[test]
    fn the_usual_is_kept_while_it_works_at_all() {
        // Stereo S16 at 48 kHz alone, beside much that goes without each of the three.
        let usual = |format, rate, channels| (format, rate, channels) == USUAL;
        let offer = check(|format, rate, channels| {
            usual(format, rate, channels) || (format != S16 && rate != 48_000 && channels != 2)
        });
        assert!(offer.has(S16, 48_000, 2), "{offer:?}");
    }

    #[test]
    fn a_card_on_which_nothing_works_offers_nothing() {
        assert!(check(|_, _, _| false).is_empty());
        let empty = Offer {
            formats: vec![],
            ..all()
        };
        assert!(empty.that_works(|_, _, _| true).is_empty());
    }

    #[test]
    fn every_pattern_ends_in_what_works() {
        for seed in 0..200u64 {
            check(|format, rate, channels| {
                let bits = u64::from(format.wire) * 31 + u64::from(rate) * 7 + u64::from(channels);
                (bits ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62 != 0
            });
        }
    }
}
