// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the device tells by itself: jacks, lost sound and control elements (virtio 1.3, 5.14.6).
//! A notice waits here until the driver has room for it in the event queue, and until the driver is
//! far enough to understand it.
//!
//! There is at most one notice for each jack, stream and control element, so the room for them is
//! known from the start, and nothing here allocates after it.

use std::collections::VecDeque;

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestMemory, GuestMemoryMmap, Permissions};

use crate::audio::Nanos;
use crate::ring::{MAX_SIZE, Ring, RingError};
use crate::wire::{EVENT_SIZE, ElementRequest, Notification, Query, Request};

/// A driver that has said nothing for so long is not setting itself up. See [`Stage`].
const SETTLED: Nanos = 2_000_000_000;
/// Most descriptors of one room for an event that are looked at. Eight bytes need no more than eight; a
/// hostile table goes on for longer, with descriptors of no bytes.
const LOOKED_AT: usize = 32;

/// What the driver is to be told. Ids are places in what the card shows; others are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Something was plugged into a jack, or pulled out.
    Jack {
        /// Jack id.
        id: usize,
        /// Whether something is plugged in now.
        plugged: bool,
    },
    /// Sound of a stream was lost.
    Xrun {
        /// Stream id.
        stream: usize,
    },
    /// A control element has changed.
    Control {
        /// Control id.
        id: usize,
        /// `1 << VIRTIO_SND_CTL_EVT_MASK_*` for what has changed about it.
        mask: u16,
    },
}

/// What a request shows of how far the driver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It asks about these jacks.
    Jacks(Query),
    /// It asks what else there is.
    Inventory,
    /// It uses what there is.
    Use,
}

impl Step {
    /// What a request shows.
    pub fn of(request: &Request) -> Option<Self> {
        Some(match request {
            Request::JackInfo(query) => Self::Jacks(*query),
            Request::PcmInfo(_)
            | Request::ChmapInfo(_)
            | Request::Element(ElementRequest::Info(_) | ElementRequest::EnumItems(_)) => {
                Self::Inventory
            }
            Request::SetParams(..)
            | Request::Prepare(_)
            | Request::Release(_)
            | Request::Start(_)
            | Request::Stop(_)
            | Request::JackRemap(_)
            | Request::Element(
                ElementRequest::Read(_)
                | ElementRequest::Write(..)
                | ElementRequest::TlvRead(_)
                | ElementRequest::TlvWrite(_)
                | ElementRequest::TlvCommand(_),
            ) => Self::Use,
            Request::Other(_) => return None,
        })
    }
}

/// What a waiting notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Jack(usize),
    Stream(usize),
    Control(usize),
}

/// How far the driver is. Linux takes events before it has set up what they are about, and falls over
/// a jack whose table it has not allocated and over a control element that it has not built; and it
/// overwrites what an event has said of a jack with the older answer to JACK_INFO.
///
/// After a suspend the driver starts with empty queues as well, but asks nothing: it knows it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No driver has been here.
    Nobody,
    /// Its queues are there since; it has asked nothing.
    Silent(Nanos),
    /// It asked what there is, last at this time; true where it has read about the jacks.
    Asking(Nanos, bool),
    /// It uses the card.
    Ready,
}

/// What is known of a jack.
#[derive(Clone, Copy, Debug)]
struct Jack {
    plugged: bool,
    /// What the driver was told last, as long as it can remember it.
    told: Option<bool>,
    waiting: bool,
}

/// The notices of a card.
pub struct Events {
    jacks: Vec<Jack>,
    /// For each stream, whether a notice of lost sound waits.
    xruns: Vec<bool>,
    /// For each control element, what has changed and is not told yet.
    masks: Vec<u16>,
    /// The subjects of the notices that wait, each once.
    waiting: VecDeque<Subject>,
    stage: Stage,
    starved: bool,
}

/// Claims the one notice that a subject has.
fn first(waiting: &mut bool) -> bool {
    !std::mem::replace(waiting, true)
}

impl Events {
    /// No notices, for a card with these jacks, plugged or not, and so many streams and control
    /// elements.
    pub fn new(jacks: impl IntoIterator<Item = bool>, streams: usize, controls: usize) -> Self {
        let jacks: Vec<_> = jacks
            .into_iter()
            .map(|plugged| Jack {
                plugged,
                told: None,
                waiting: false,
            })
            .collect();
        let waiting = VecDeque::with_capacity(jacks.len() + streams + controls);
        Self {
            jacks,
            xruns: vec![false; streams],
            masks: vec![0; controls],
            waiting,
            stage: Stage::Nobody,
            starved: false,
        }
    }

    /// Has the driver told, as soon as it can be. What is no news any more by then is not told.
    pub fn tell(&mut self, notice: Notice) {
        #[cfg(fuzzing)]
        crate::fuzz::record::notice(&notice);
        let subject = match notice {
            Notice::Jack { id, plugged } => self.jacks.get_mut(id).and_then(|jack| {
                jack.plugged = plugged;
                first(&mut jack.waiting).then_some(Subject::Jack(id))
            }),
            Notice::Xrun { stream } => self
                .xruns
                .get_mut(stream)
                .and_then(|waiting| first(waiting).then_some(Subject::Stream(stream))),
            Notice::Control { id, mask } => self.masks.get_mut(id).and_then(|known| {
                let before = std::mem::replace(known, *known | mask);
                (before == 0 && mask != 0).then_some(Subject::Control(id))
            }),
        };
        self.waiting.extend(subject);
    }

    /// A stream starts anew: what was lost before is no trouble of its new sound.
    pub fn forget_xrun(&mut self, stream: usize) {
        if let Some(waiting) = self.xruns.get_mut(stream)
            && std::mem::take(waiting)
        {
            self.waiting
                .retain(|&subject| subject != Subject::Stream(stream));
        }
    }

    /// A driver's control queue was taken into service; `fresh` where it starts at its beginning.
    /// What was told to the driver before may have gone with its queues.
    pub fn driver_started(&mut self, fresh: bool, now: Nanos) {
        if !fresh && self.stage != Stage::Nobody {
            return;
        }
        self.stage = Stage::Silent(now);
        for (id, jack) in self.jacks.iter_mut().enumerate() {
            jack.told = None;
            self.waiting
                .extend(first(&mut jack.waiting).then_some(Subject::Jack(id)));
        }
    }

    /// The driver has made a request, and it was carried out.
    pub fn heard(&mut self, step: Step, now: Nanos) {
        self.stage = match step {
            Step::Jacks(query) => {
                let (start, count) = (query.start as usize, query.count as usize);
                for jack in self.jacks.iter_mut().skip(start).take(count) {
                    jack.told = Some(jack.plugged);
                }
                Stage::Asking(now, false)
            }
            // It works off one answer before it asks for the next.
            Step::Inventory => Stage::Asking(now, !matches!(self.stage, Stage::Silent(_))),
            Step::Use => Stage::Ready,
        };
    }

    /// When the driver can be told of this.
    fn ready(&self, subject: Subject) -> Option<Nanos> {
        match (self.stage, subject) {
            (Stage::Nobody, _) => None,
            (Stage::Ready, _) | (Stage::Asking(_, true), Subject::Jack(_)) => Some(0),
            (Stage::Silent(since) | Stage::Asking(since, _), _) => {
                Some(since.saturating_add(SETTLED))
            }
        }
    }

    /// When a notice can be told that only waits for the driver to be far enough.
    pub fn deadline(&self, now: Nanos) -> Option<Nanos> {
        let due = self
            .waiting
            .iter()
            .filter_map(|&subject| self.ready(subject));
        due.filter(|&due| due > now).min()
    }

    /// Whether a notice could be told, if the driver had room for it.
    pub fn needs_room(&self) -> bool {
        self.starved
    }

    /// Writes the notices that the driver can be told of into the room that it has for them.
    ///
    /// # Errors
    /// The driver made nonsense of the ring. The notices are kept.
    pub fn deliver(
        &mut self,
        ring: &mut Ring,
        memory: &GuestMemoryMmap,
        now: Nanos,
    ) -> Result<(), RingError> {
        self.starved = false;
        for _ in 0..self.waiting.len() {
            let Some(subject) = self.waiting.pop_front() else {
                break;
            };
            if self.ready(subject).is_none_or(|due| due > now) {
                self.waiting.push_back(subject);
                continue;
            }
            if let Some(notification) = self.news(subject) {
                let written = write(ring, memory, notification.encode());
                if !matches!(written, Ok(true)) {
                    self.waiting.push_front(subject);
                    self.starved = true;
                    return written.map(|_| ());
                }
            }
            self.told(subject);
        }
        Ok(())
    }

    /// What there is to tell; `None` where it is no news any more.
    fn news(&self, subject: Subject) -> Option<Notification> {
        match subject {
            Subject::Jack(id) => {
                let jack = self.jacks.get(id)?;
                let id = u32::try_from(id).ok()?;
                (jack.told != Some(jack.plugged)).then_some(if jack.plugged {
                    Notification::JackConnected(id)
                } else {
                    Notification::JackDisconnected(id)
                })
            }
            Subject::Stream(stream) => Some(Notification::Xrun(u32::try_from(stream).ok()?)),
            Subject::Control(id) => {
                let mask = *self.masks.get(id)?;
                Some(Notification::Control(u16::try_from(id).ok()?, mask))
            }
        }
    }

    fn told(&mut self, subject: Subject) {
        match subject {
            Subject::Jack(id) => {
                if let Some(jack) = self.jacks.get_mut(id) {
                    jack.told = Some(jack.plugged);
                    jack.waiting = false;
                }
            }
            Subject::Stream(stream) => {
                if let Some(waiting) = self.xruns.get_mut(stream) {
                    *waiting = false;
                }
            }
            Subject::Control(id) => {
                if let Some(mask) = self.masks.get_mut(id) {
                    *mask = 0;
                }
            }
        }
    }
}

/// Writes an event into the next room that is fit for it. Room that is not is given back empty, so
/// that the driver does not miss it. False where there is none.
fn write(
    ring: &mut Ring,
    memory: &GuestMemoryMmap,
    event: [u8; EVENT_SIZE],
) -> Result<bool, RingError> {
    for _ in 0..MAX_SIZE {
        let Some(chain) = ring.take(memory)? else {
            break;
        };
        #[cfg(fuzzing)]
        crate::fuzz::record::message(crate::wire::QUEUE_EVENT, &chain);
        let head = chain.head_index();
        let written = fill(memory, chain, &event);
        ring.give_back(memory, head, if written { EVENT_SIZE as u32 } else { 0 });
        if written {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes `event` over the first bytes of a chain's room; false where it does not fit there. What the
/// driver wrote into the chain, against the rules, is passed over.
fn fill(
    memory: &GuestMemoryMmap,
    chain: DescriptorChain<&GuestMemoryMmap>,
    event: &[u8; EVENT_SIZE],
) -> bool {
    // Each descriptor is read once: the driver may change it meanwhile. Each part is a byte at least,
    // so that no event needs more of them than it has bytes.
    let mut room = [None; EVENT_SIZE];
    let (mut used, mut size) = (0, 0);
    let parts = chain.take(LOOKED_AT);
    for part in parts.filter(|part| part.is_write_only() && part.len() > 0) {
        let (at, length) = (part.addr(), part.len() as usize);
        if !memory.check_range(at, length, Permissions::Write) {
            return false;
        }
        if size < EVENT_SIZE
            && let Some(place) = room.get_mut(used)
        {
            *place = Some((at, length));
            used += 1;
            size += length.min(EVENT_SIZE);
        }
    }
    if size < EVENT_SIZE {
        return false;
    }
    let mut rest = &event[..];
    for (at, length) in room.into_iter().flatten() {
        let (part, behind) = rest.split_at(rest.len().min(length));
        if memory.write_slice(part, at).is_err() {
            return false;
        }
        rest = behind;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests;
