// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Elements of real cards that stand behind those of the virtual card: a volume, a switch or a source
//! that a real mixer has, and sockets that tell whether something is plugged in.
//!
//! One thread for each real card waits for its changes and carries out those of the driver; the
//! audio thread exchanges values with it over a [`Line`] and never waits for a real mixer.

mod control_device;
mod line;
mod worker;

use std::ffi::c_long;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

pub use line::Line;

use crate::description::{ControlKind, Description, HostElement};
use crate::wire::CtlRange;
use control_device::{ControlDevice, Found, Kind};
use worker::{Watched, Worker, from_real};

/// `SNDRV_CTL_TLVT_CONTAINER`, `SNDRV_CTL_TLVT_DB_RANGE`
const TLV_CONTAINER: u32 = 0;
const TLV_DB_RANGE: u32 = 3;

/// Why a real card's element cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MixerError {
    /// The card has no control device, or it may not be used.
    #[error("card {card}: {source}; aplay -l lists the cards")]
    Card {
        /// Name of the card.
        card: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The card has no such element, or it cannot be read.
    #[error(
        "card {card}, element '{name}', index {index}: {}; amixer -D {card} controls lists them",
        source.desc()
    )]
    Element {
        /// Name of the card.
        card: String,
        /// Name of the element.
        name: String,
        /// Its index.
        index: u32,
        /// What the system said.
        source: Errno,
    },
    /// The element is something else.
    #[error("card {card}, element '{name}' is no {wanted}")]
    Kind {
        /// Name of the card.
        card: String,
        /// Name of the element.
        name: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// There is no eventfd or no thread.
    #[error("cannot look after real mixers: {0}")]
    Setup(#[source] std::io::Error),
}

/// What of the virtual card a real element stands behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The control element with this id.
    Control(usize),
    /// The jack with this id.
    Jack(usize),
}

/// A real card's element as the driver is to see it: its values count from 0.
pub struct Original {
    /// What it stands behind.
    pub target: Target,
    /// What its values can be.
    pub range: CtlRange,
    /// Names of the items of an enumerated element.
    pub items: Vec<String>,
    /// Whether it can be changed.
    pub writable: bool,
    /// Its metadata; empty where there is none.
    pub tlv: Vec<u32>,
    /// Its values.
    pub values: Vec<u32>,
    /// Where they are exchanged.
    pub line: Arc<Line>,
    /// The real card is away: all this is what another process has seen of it.
    pub away: bool,
}

/// The real mixers behind a card.
#[derive(Default)]
pub struct Mixers {
    all: Vec<Mixer>,
    originals: Vec<Original>,
}

/// That of one real card.
struct Mixer {
    card: String,
    /// `None` while the card is away.
    device: Option<ControlDevice>,
    watched: Vec<Watched>,
    /// Wakes the thread that is to look after it.
    wake: Arc<EventFd>,
}

/// What a description wants of a real element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Volume,
    Switch,
    Source,
    Jack,
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::Volume => "volume (a whole number)",
            Self::Switch => "switch",
            Self::Source => "choice of several items",
            Self::Jack => "jack (on or off)",
        }
    }

    /// The range of such an element as the driver is to see it.
    fn range(self, kind: &Kind) -> Option<CtlRange> {
        match (self, kind) {
            (Self::Volume, Kind::Integer(min, max, step)) => Some(CtlRange::Integer {
                max: u32::try_from(max.checked_sub(*min)?).ok()?,
                step: u32::try_from(*step).ok()?,
            }),
            (Self::Switch | Self::Jack, Kind::Boolean) => Some(CtlRange::Boolean),
            (Self::Source, Kind::Enumerated(items)) => {
                let count = u32::try_from(items.len()).ok()?;
                (count > 0).then_some(CtlRange::Enumerated(count))
            }
            _ => None,
        }
    }
}

fn setup(errno: Errno) -> MixerError {
    MixerError::Setup(errno.into())
}

impl Mixers {
    /// Looks up all real elements that a description names.
    ///
    /// # Errors
    /// One of them is not there, or is something else than it should be.
    pub fn open(description: &Description) -> Result<Self, MixerError> {
        let mut mixers = Self::default();
        for (id, control) in description.controls.iter().enumerate() {
            let wanted = match control.kind {
                ControlKind::Volume(..) => Wanted::Volume,
                ControlKind::Mute => Wanted::Switch,
                ControlKind::Source => Wanted::Source,
            };
            if let Some(element) = &control.mixer {
                mixers.add(Target::Control(id), element, wanted)?;
            }
        }
        for (id, jack) in description.jacks.iter().enumerate() {
            if let Some(element) = &jack.follow {
                mixers.add(Target::Jack(id), element, Wanted::Jack)?;
            }
        }
        Ok(mixers)
    }

    /// Opens the real mixers once more, in a process that takes the place of another one: a card that
    /// is away then is looked for, as long as it is `known` what its elements are.
    ///
    /// # Errors
    /// As of [`Mixers::open`], if nothing is known.
    pub fn open_again(description: &Description, known: Option<Self>) -> Result<Self, MixerError> {
        match (Self::open(description), known) {
            (Err(error), Some(known)) => {
                log::warn!("{error}; its elements keep their last values until it is there");
                Ok(known)
            }
            (result, _) => result,
        }
    }

    /// Closes the control devices; what was found stays known.
    #[must_use]
    pub fn closed(mut self) -> Self {
        self.all.iter_mut().for_each(|mixer| mixer.device = None);
        self.originals.iter_mut().for_each(|it| it.away = true);
        self
    }

    /// What was found; to be handed to the card.
    pub fn take_originals(&mut self) -> Vec<Original> {
        std::mem::take(&mut self.originals)
    }

    fn add(
        &mut self,
        target: Target,
        element: &HostElement,
        wanted: Wanted,
    ) -> Result<(), MixerError> {
        let HostElement { card, name, index } = element;
        let place = match self.all.iter().position(|mixer| mixer.card == *card) {
            Some(place) => place,
            None => {
                let device = ControlDevice::open(card).map_err(|source| MixerError::Card {
                    card: card.clone(),
                    source,
                })?;
                let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
                let wake = EventFd::from_value_and_flags(0, flags).map_err(setup)?;
                self.all.push(Mixer {
                    card: card.clone(),
                    device: Some(device),
                    watched: Vec::new(),
                    wake: Arc::new(wake),
                });
                self.all.len() - 1
            }
        };
        let Some(mixer) = self.all.get_mut(place) else {
            return Ok(());
        };
        let Some(device) = &mixer.device else {
            return Ok(());
        };
        let fail = |source| MixerError::Element {
            card: card.clone(),
            name: name.clone(),
            index: *index,
            source,
        };
        let found = device.find(name, *index).map_err(fail)?;
        let range = wanted.range(&found.kind).filter(|_| found.count > 0);
        let range = range.ok_or_else(|| MixerError::Kind {
            card: card.clone(),
            name: name.clone(),
            wanted: wanted.name(),
        })?;
        let values = device.read(&found).map_err(fail)?;
        let values: Vec<_> = values.iter().map(|&v| from_real(&found.kind, v)).collect();
        let line = Arc::new(Line::new(&values, Arc::clone(&mixer.wake)));
        self.originals
            .push(original(target, &found, range, &values, &line));
        mixer.watched.push(Watched {
            element: element.clone(),
            found,
            line,
            values,
            done: 0,
            refused: false,
        });
        Ok(())
    }

    /// Starts a thread for each real card. `audio` wakes the audio thread.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start(self, audio: &Arc<EventFd>) -> Result<Running, MixerError> {
        let mut running = Running::default();
        for mixer in self.all {
            let worker = Worker {
                card: mixer.card,
                unseen: mixer.device.is_none(),
                device: mixer.device,
                all: mixer.watched,
                wake: Arc::clone(&mixer.wake),
                audio: Arc::clone(audio),
            };
            let stop = Arc::clone(&running.stop);
            let thread = std::thread::Builder::new()
                .name("mixer".to_owned())
                .spawn(move || worker.run(&stop))
                .map_err(MixerError::Setup)?;
            running.threads.push((mixer.wake, thread));
        }
        Ok(running)
    }
}

fn original(
    target: Target,
    found: &Found,
    range: CtlRange,
    values: &[u32],
    line: &Arc<Line>,
) -> Original {
    let mut tlv = found.tlv.clone();
    if let Kind::Integer(min, ..) = found.kind {
        count_from_0(&mut tlv, min);
    }
    Original {
        target,
        range,
        items: match &found.kind {
            Kind::Enumerated(items) => items.clone(),
            _ => Vec::new(),
        },
        writable: found.writable,
        tlv,
        values: values.to_vec(),
        line: Arc::clone(line),
        away: false,
    }
}

/// Makes metadata fit values that count from 0 where those of the real element count from `min`.
/// Most kinds of scale are about the range as a whole; one names values.
fn count_from_0(tlv: &mut [u32], min: c_long) {
    let mut rest = tlv;
    while let [kind, length, behind @ ..] = rest {
        let words = (*length as usize).div_ceil(4).min(behind.len());
        let (data, next) = behind.split_at_mut(words);
        match *kind {
            TLV_CONTAINER => count_from_0(data, min),
            TLV_DB_RANGE => {
                // Least value, greatest value, and a scale of two words for what lies between.
                for part in data.chunks_exact_mut(6) {
                    for value in part.iter_mut().take(2) {
                        let shifted = c_long::from(value.cast_signed()).saturating_sub(min);
                        *value = shifted as u32;
                    }
                }
            }
            _ => {}
        }
        rest = next;
    }
}

/// The threads that look after real mixers. Dropping it ends them.
#[derive(Default)]
pub struct Running {
    stop: Arc<AtomicBool>,
    threads: Vec<(Arc<EventFd>, JoinHandle<()>)>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for (wake, thread) in self.threads.drain(..) {
            let _ = wake.write(1);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_values_in_metadata_are_moved() {
        let scale = [1, 8, (-4500i32).cast_unsigned(), 30];
        let mut tlv = scale;
        count_from_0(&mut tlv, -50);
        assert_eq!(tlv, scale);
        let below = |value: i32| value.cast_unsigned();
        let range = [3, 48, below(-50), 9, 1, 8, 7, 7, 10, 100, 1, 8, 8, 8];
        let mut tlv = [vec![0, 56], range.to_vec(), vec![9, 4, 5]].concat();
        count_from_0(&mut tlv, -50);
        let moved = [3, 48, 0, 59, 1, 8, 7, 7, 60, 150, 1, 8, 8, 8];
        assert_eq!(tlv, [vec![0, 56], moved.to_vec(), vec![9, 4, 5]].concat());
        // Cut short, or of a length that is none.
        for mut tlv in [
            vec![],
            vec![3],
            vec![3, u32::MAX, 5],
            vec![0, u32::MAX, 3, 4],
        ] {
            count_from_0(&mut tlv, -50);
        }
    }

    #[test]
    fn an_element_has_to_be_what_it_is_wanted_for() {
        let items = |count: usize| Kind::Enumerated(vec!["x".to_owned(); count]);
        let integer = Kind::Integer(-50, 100, 1);
        let range = CtlRange::Integer { max: 150, step: 1 };
        assert_eq!(Wanted::Volume.range(&integer), Some(range));
        assert_eq!(
            Wanted::Switch.range(&Kind::Boolean),
            Some(CtlRange::Boolean)
        );
        assert_eq!(
            Wanted::Source.range(&items(3)),
            Some(CtlRange::Enumerated(3))
        );
        for (wanted, kind) in [
            (Wanted::Volume, Kind::Boolean),
            (Wanted::Volume, Kind::Integer(5, 4, 1)),
            (Wanted::Volume, Kind::Integer(c_long::MIN, c_long::MAX, 1)),
            (Wanted::Switch, integer),
            (Wanted::Source, items(0)),
            (Wanted::Jack, Kind::Other),
        ] {
            assert_eq!(wanted.range(&kind), None, "{wanted:?} {kind:?}");
        }
    }

    #[test]
    fn values_count_from_0_and_back() {
        let kind = Kind::Integer(-50, 100, 1);
        for (real, value) in [(-50, 0), (0, 50), (100, 150)] {
            assert_eq!(from_real(&kind, real), value);
        }
        assert_eq!(from_real(&kind, c_long::MIN), 0);
        assert_eq!(from_real(&Kind::Boolean, 1), 1);
    }

    #[test]
    fn what_is_not_there_is_said_with_its_name() {
        let element = HostElement {
            card: "hw:no-such-card".to_owned(),
            name: "Master".to_owned(),
            index: 0,
        };
        let error = Mixers::default().add(Target::Jack(0), &element, Wanted::Jack);
        let text = error.err().unwrap().to_string();
        assert!(text.starts_with("card hw:no-such-card: "), "{text}");
    }
}
