// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What of the card outlives its process: where that is written, and how the next process takes it up.

use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

use super::Card;
use crate::area::Area;
use crate::audio::Nanos;
use crate::audio::mixer::Target;
use crate::events::Notice;
use crate::pcm_format::MAX_CHANNELS;
use crate::record::{RECORD_WORDS, Record, fnv};
use crate::report::Report;
use crate::ring::Ring;
use crate::wire::CTL_VALUES_MAX;

/// In the first word behind the queues: this program, and the version of what follows.
const MAGIC: u64 = u64::from_le_bytes(*b"vusound\x01");
/// Words before the records: magic, what the card is made of, restarts.
const HEADER: usize = 8;
const MADE_OF: usize = 1;
const RESTARTS: usize = 2;
/// Words of what a stream offers.
const OFFER_WORDS: usize = 3;
/// In the word of a value: it has been written.
const WRITTEN: u64 = 1 << 32;
/// How long requests wait for the messages that belong to the time before them. Streams wait longer, if
/// need be: a ring may come late where hosts take their time.
pub const PATIENCE: Nanos = 500_000_000;

/// Streams begin to wait at the next wake-up: getting hosts ready may take longer than that.
const FROM_NOW_ON: Nanos = Nanos::MAX;

impl Card {
    /// Words that the card needs in an [`Area`].
    pub fn words(&self) -> usize {
        self.jacks_from(0) + self.jacks.len()
    }

    /// Writes down in this area from now on what the next process needs; and now, what this one has
    /// in service. What another process has left there is taken up when the control queue starts.
    pub fn set_area(&mut self, area: Area, now: Nanos) {
        let area = Arc::new(area);
        let same = self.area.as_ref().is_some_and(|known| known.is_same(&area));
        let begun = area.load(area.behind_queues()) == MAGIC;
        if self.rings.iter().all(Option::is_none) {
            self.next_area = Some(area);
            return;
        }
        if same && begun {
            return;
        }
        self.area = Some(Arc::clone(&area));
        for (queue, ring) in self.rings.iter_mut().enumerate() {
            let of_queue = self.pcms.iter().filter(|pcm| pcm.queue() == queue);
            let held = of_queue.flat_map(|pcm| pcm.lane.messages());
            if let Some(ring) = ring {
                ring.move_to(&area, queue, held);
            }
        }
        self.write_all(&area, now);
    }

    /// Nothing is written down any more: what is there is for the next process.
    pub fn let_go(&mut self) {
        self.area = None;
        self.next_area = None;
        self.rings.iter_mut().flatten().for_each(Ring::let_go);
        self.pcms.iter_mut().for_each(|pcm| pcm.keep(None));
    }

    /// A ring comes into service. Returns whether it is one that a dead process has left.
    pub(crate) fn go_on(
        &mut self,
        queue: usize,
        ring: &mut Ring,
        memory: &GuestMemoryMmap,
    ) -> bool {
        let area = self.next_area.as_ref().or(self.area.as_ref());
        area.is_some_and(|area| ring.go_on(area, queue, memory))
    }

    /// The control queue has come into service. Takes the card over as the last process has left it;
    /// returns whether it, or this one, has left anything. `left`: the queue is the same.
    pub(crate) fn take_over(&mut self, left: bool, now: Nanos) -> bool {
        let Some(area) = self.next_area.take().or(self.area.clone()) else {
            return false;
        };
        let at = area.behind_queues();
        // Nobody has gone on from it since: the card is as it was, whatever time has passed.
        let own = self.area.as_ref().is_some_and(|own| own.is_same(&area))
            && area.load(at + RESTARTS) == self.restarts;
        self.area = Some(Arc::clone(&area));
        let mut taken = false;
        if left && area.load(at) == MAGIC && area.load(at + MADE_OF) == self.made_of() {
            if own {
                return true;
            }
            self.restore_offers(&area);
            self.keep_records(&area);
            for pcm in &mut self.pcms {
                taken |= pcm.restore();
            }
            self.restore_values(&area);
        }
        if taken {
            self.restarts = area.load(at + RESTARTS).saturating_add(1);
            area.store(at + RESTARTS, self.restarts);
            self.restored = Some(FROM_NOW_ON);
            self.report(Report::TakenOver(self.restarts));
        } else {
            self.write_all(&area, now);
        }
        taken
    }

    /// Lets the streams that were taken over go on whose messages have been taken again. Returns
    /// whether requests are to wait for others.
    pub(super) fn resume_streams(&mut self, memory: &GuestMemoryMmap, now: Nanos) -> bool {
        let Some(mut since) = self.restored else {
            return false;
        };
        if since == FROM_NOW_ON {
            since = now;
            self.restored = Some(now);
        }
        self.take_messages(memory);
        let late = now >= since.saturating_add(PATIENCE);
        let mut waiting = false;
        for id in 0..self.pcms.len() {
            let Some(pcm) = self.pcms.get_mut(id).filter(|pcm| pcm.is_resuming()) else {
                continue;
            };
            let ring = self.rings.get_mut(pcm.queue());
            let ring = ring
                .and_then(Option::as_mut)
                .filter(|ring| ring.is_enabled());
            let Some(ring) = ring else {
                waiting = true;
                continue;
            };
            let resumed = pcm.resume(&mut *self.host, memory, ring, now);
            pcm.note_state(&mut *self.host, Some(ring), now);
            if let Err(error) = resumed {
                self.report(Report::Failed(id, error));
            }
        }
        if !waiting {
            self.restored = None;
        }
        waiting && !late
    }

    /// The values of an element have changed.
    pub(super) fn keep_values(&self, element: usize) {
        let Some(area) = &self.area else {
            return;
        };
        let at = self.values_from(area.behind_queues()) + element * CTL_VALUES_MAX;
        let values = self.elements.values(element).iter().take(CTL_VALUES_MAX);
        for (at, &value) in (at..).zip(values) {
            area.store(at, WRITTEN | u64::from(value));
        }
    }

    /// Something was plugged into a jack, or pulled out.
    pub(super) fn keep_jack(&self, jack: usize) {
        if let (Some(area), Some(info)) = (&self.area, self.jacks.get(jack)) {
            area.store(
                self.jacks_from(area.behind_queues()) + jack,
                WRITTEN | u64::from(info.connected),
            );
        }
    }

    fn offers_from(&self, at: usize) -> usize {
        at + HEADER + self.pcms.len() * RECORD_WORDS
    }

    fn values_from(&self, at: usize) -> usize {
        self.offers_from(at) + self.pcms.len() * OFFER_WORDS
    }

    fn jacks_from(&self, at: usize) -> usize {
        self.values_from(at) + self.elements.len() * CTL_VALUES_MAX
    }

    /// A card that is made of other things is another card. What a real card can do is left out: it
    /// depends on who else has it open.
    fn made_of(&self) -> u64 {
        let parts = [self.jacks.len(), self.elements.len(), self.infos.len()].map(|n| n as u64);
        let streams = self
            .infos
            .iter()
            .map(|info| u64::from(info.direction as u8));
        fnv(parts.into_iter().chain(streams))
    }

    /// The streams offer what the driver has been told.
    fn restore_offers(&mut self, area: &Area) {
        let at = self.offers_from(area.behind_queues());
        for (id, (pcm, info)) in self.pcms.iter_mut().zip(&mut self.infos).enumerate() {
            let word = |number: usize| area.load(at + id * OFFER_WORDS + number);
            let (min, max) = (word(2) as u8, (word(2) >> 8) as u8);
            if !(1..=max).contains(&min) || max > MAX_CHANNELS {
                continue;
            }
            info.formats = word(0);
            info.rates = word(1);
            (info.channels_min, info.channels_max) = (min, max);
            pcm.offer(*info);
        }
    }

    fn keep_offers(&self, area: &Area) {
        let at = self.offers_from(area.behind_queues());
        for (id, info) in self.infos.iter().enumerate() {
            let channels = u64::from(info.channels_min) | u64::from(info.channels_max) << 8;
            for (number, word) in [info.formats, info.rates, channels].into_iter().enumerate() {
                area.store(at + id * OFFER_WORDS + number, word);
            }
        }
    }

    /// Writes all that there is to know of the card, the word for it last.
    fn write_all(&mut self, area: &Arc<Area>, now: Nanos) {
        let at = area.behind_queues();
        for word in 0..self.words() {
            area.store(at + word, 0);
        }
        area.store(at + MADE_OF, self.made_of());
        area.store(at + RESTARTS, self.restarts);
        self.keep_offers(area);
        for id in 0..self.elements.len() {
            self.keep_values(id);
        }
        for id in 0..self.jacks.len() {
            self.keep_jack(id);
        }
        self.keep_records(area);
        self.note_all(now);
        area.store(at, MAGIC);
    }

    fn keep_records(&mut self, area: &Arc<Area>) {
        let at = area.behind_queues() + HEADER;
        for (id, pcm) in self.pcms.iter_mut().enumerate() {
            pcm.keep(Some(Record::new(area, at + id * RECORD_WORDS)));
        }
    }

    /// Writes down how each stream is.
    pub(crate) fn note_all(&mut self, now: Nanos) {
        for pcm in &mut self.pcms {
            let ring = self.rings.get(pcm.queue());
            pcm.note_state(&mut *self.host, ring.and_then(Option::as_ref), now);
        }
    }

    /// Elements and jacks that no real card stands behind, or one that is away, are as they were. A
    /// real card that comes back takes them.
    fn restore_values(&mut self, area: &Area) {
        let at = self.values_from(area.behind_queues());
        for id in 0..self.elements.len() {
            let target = Target::Control(id);
            let mirror = self.mirrors.iter().find(|mirror| mirror.target == target);
            if mirror.is_some_and(|mirror| !mirror.away) {
                self.keep_values(id);
                continue;
            }
            let kept = (0..CTL_VALUES_MAX).map_while(|place| {
                let word = area.load(at + id * CTL_VALUES_MAX + place);
                (word & WRITTEN != 0).then_some(word as u32)
            });
            self.elements.follow(id, kept);
            if let Some(mirror) = mirror.filter(|mirror| mirror.writable) {
                mirror.line.ask(self.elements.values(id));
            }
        }
        for id in 0..self.jacks.len() {
            let word = area.load(self.jacks_from(area.behind_queues()) + id);
            let followed = self
                .mirrors
                .iter()
                .any(|mirror| mirror.target == Target::Jack(id) && !mirror.away);
            if word & WRITTEN != 0 && !followed {
                self.tell(Notice::Jack {
                    id,
                    plugged: word & 1 != 0,
                });
            }
        }
        let elements = &self.elements;
        for pcm in &mut self.pcms {
            let id = pcm.id;
            pcm.gain.set(|channel| elements.gain(id, channel));
            pcm.gain.settle();
        }
    }
}
