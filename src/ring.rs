// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One queue in service: its ring, its two eventfds, and when the driver is to kick.

mod again;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

use crate::area::Area;
use crate::eventfd;
use crate::inflight::Inflight;
use again::Again;

/// The largest queue that is served.
pub const MAX_SIZE: u16 = 1024;

/// `VRING_USED_F_NO_NOTIFY`
const NO_NOTIFY: u16 = 1;

/// How far ahead of the driver an avail_event is that asks for no kick: half of the index space, so
/// that neither a driver that has just added messages nor one that the device overtakes meets it.
const FAR: u16 = 1 << 15;

/// What the used ring tells the driver about kicks, so that it is written only when it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    /// Nobody knows: the ring is new, or was somebody else's for a while.
    Unknown,
    /// The driver kicks for the message with this index.
    Wanted(u16),
    /// The driver kicks for none, said when this was the index of the next message.
    Unwanted(u16),
}

/// Everything that makes a ring.
#[derive(Debug)]
pub struct Setup {
    /// Entries.
    pub size: u16,
    /// Descriptor table.
    pub desc: GuestAddress,
    /// Available ring.
    pub avail: GuestAddress,
    /// Used ring.
    pub used: GuestAddress,
    /// Where a ring that is not known yet starts.
    pub base: u16,
    /// VIRTIO_F_EVENT_IDX was negotiated.
    pub event_idx: bool,
    /// Whether messages are taken (SET_VRING_ENABLE).
    pub enabled: bool,
    /// Readable when the driver has kicked.
    pub kick: Option<File>,
    /// Written to interrupt the driver.
    pub call: Option<File>,
    /// Written when the ring turns out to be broken.
    pub err: Option<File>,
}

/// Why a ring is refused or given up.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// Its place or size makes no sense.
    #[error("its addresses or its size cannot be served")]
    Place,
    /// What the driver wrote into it makes no sense.
    #[error(transparent)]
    Content(#[from] virtio_queue::Error),
}

/// A queue in service.
pub struct Ring {
    queue: Queue,
    /// What is in flight, written down for the next process.
    inflight: Option<Inflight>,
    /// What was in flight when the last process died.
    again: Again,
    /// Number of the message that was taken last, and whether a dead process had taken it before.
    serial: u64,
    retaken: bool,
    enabled: bool,
    broken: bool,
    unannounced: bool,
    notice: Notice,
    kick: Option<File>,
    call: Option<File>,
    err: Option<File>,
}

impl Ring {
    /// Takes a ring into service at its base.
    ///
    /// # Errors
    /// The ring does not lie in `memory`, or its size is no power of two up to [`MAX_SIZE`].
    pub fn new(setup: Setup, memory: &GuestMemoryMmap) -> Result<Self, RingError> {
        let mut queue = Queue::new(MAX_SIZE)?;
        queue.try_set_size(setup.size)?;
        queue.try_set_desc_table_address(setup.desc)?;
        queue.try_set_avail_ring_address(setup.avail)?;
        queue.try_set_used_ring_address(setup.used)?;
        queue.set_next_avail(setup.base);
        queue.set_event_idx(setup.event_idx);
        queue.set_ready(true);
        if !queue.is_valid(memory) {
            return Err(RingError::Place);
        }
        // The used index counts the messages given back so far. It is the driver's copy of ours,
        // and right even where messages are still in flight.
        let used = queue.used_idx(memory, Ordering::Acquire)?;
        queue.set_next_used(used.0);
        Ok(Self {
            queue,
            inflight: None,
            again: Again::default(),
            serial: 0,
            retaken: false,
            enabled: setup.enabled,
            broken: false,
            unannounced: false,
            notice: Notice::Unknown,
            kick: setup.kick,
            call: setup.call,
            err: setup.err,
        })
    }

    /// Writes down in `area` from now on what is in flight. What a process that has died has left
    /// there of this ring is taken again; returns whether there was any word of it.
    pub fn go_on(&mut self, area: &Arc<Area>, queue: usize, memory: &GuestMemoryMmap) -> bool {
        let (size, used) = (self.queue.size(), self.queue.next_used());
        if size > area.queue_size() {
            return false;
        }
        let (inflight, taken) = match Inflight::recover(area, queue, size, used) {
            Some((inflight, taken)) => (inflight, taken),
            None => {
                self.inflight = Some(Inflight::fresh(area, queue, used));
                return false;
            }
        };
        let next = used.wrapping_add(taken.len() as u16);
        let avail = self.queue.avail_idx(memory, Ordering::Acquire);
        if avail.is_ok_and(|avail| avail.0.wrapping_sub(next) > size - taken.len() as u16) {
            self.inflight = Some(Inflight::fresh(area, queue, used));
            return false;
        }
        self.serial = inflight.serial();
        self.inflight = Some(inflight);
        self.queue.set_next_avail(next);
        self.again = Again::new(taken);
        true
    }

    /// Writes down in another `area` from now on what is in flight, which is what this ring still is
    /// to take again and what is `held`: descriptors and numbers.
    pub fn move_to(
        &mut self,
        area: &Arc<Area>,
        queue: usize,
        held: impl Iterator<Item = (u16, u64)>,
    ) {
        if self.queue.size() > area.queue_size() {
            self.inflight = None;
            return;
        }
        let mut inflight = Inflight::fresh(area, queue, self.queue.next_used());
        let again = self.again.left().map(|taken| (taken.head, taken.serial));
        for (head, serial) in held.chain(again) {
            inflight.hold(head, serial);
        }
        inflight.count_from(self.serial);
        self.inflight = Some(inflight);
    }

    /// Nothing is written down any more.
    pub fn let_go(&mut self) {
        self.inflight = None;
    }

    /// Number of the message that was taken last.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether a process that has died had taken the same message.
    pub fn is_retaken(&self) -> bool {
        self.retaken
    }

    /// Whether messages are taken.
    pub fn is_enabled(&self) -> bool {
        self.enabled && !self.broken
    }

    /// Whether the ring is in `memory` as this device left it. A driver that starts anew has cleared
    /// both of its indices.
    pub fn is_intact(&self, memory: &GuestMemoryMmap) -> bool {
        let used = self.queue.used_idx(memory, Ordering::Acquire);
        let avail = self.queue.avail_idx(memory, Ordering::Acquire);
        let (Ok(used), Ok(avail)) = (used, avail) else {
            return false;
        };
        let waiting = avail.0.wrapping_sub(self.queue.next_avail());
        used.0 == self.queue.next_used() && waiting <= self.queue.size()
    }

    /// Whether `setup` describes this very ring, as this device left it.
    pub fn is_at(&self, setup: &Setup, memory: &GuestMemoryMmap) -> bool {
        // One that broke starts anew, as its driver does.
        !self.broken
            && self.is_intact(memory)
            && self.queue.size() == setup.size
            && self.queue.desc_table() == setup.desc.raw_value()
            && self.queue.avail_ring() == setup.avail.raw_value()
            && self.queue.used_ring() == setup.used.raw_value()
    }

    /// Goes on with the eventfds of a new connection.
    pub fn adopt(&mut self, setup: Setup) {
        // A frontend that dies before it has enabled the ring again leaves it as it was.
        self.enabled |= setup.enabled;
        self.notice = Notice::Unknown;
        self.kick = setup.kick;
        self.err = setup.err;
        // A frontend may name the eventfd for interrupts later; until then the old one is right.
        self.call = setup.call.or(self.call.take());
        self.announce_anyway();
    }

    /// Replaces the eventfd by which the driver is interrupted.
    pub fn set_call(&mut self, call: Option<File>) {
        self.call = call;
        self.announce_anyway();
    }

    /// SET_VRING_ENABLE.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
        self.notice = Notice::Unknown;
    }

    /// The eventfd that the driver kicks; `None` while it is not to kick. A driver that kicks
    /// nevertheless does not wake anybody.
    pub fn kick(&self) -> Option<&File> {
        self.kick
            .as_ref()
            .filter(|_| matches!(self.notice, Notice::Wanted(_)))
    }

    /// Forgets a kick that has been seen.
    pub fn clear_kick(&mut self) {
        self.kick.iter().for_each(eventfd::clear);
    }

    /// Index of the next message that will be taken.
    pub fn next_avail(&self) -> u16 {
        self.queue.next_avail()
    }

    /// Head of the message that was taken `back` messages before the next one; 1 is the newest.
    pub fn taken_before(&self, memory: &GuestMemoryMmap, back: u16) -> Option<u16> {
        let place = self
            .queue
            .next_avail()
            .wrapping_sub(back)
            .checked_rem(self.queue.size())?;
        let at = GuestAddress(self.queue.avail_ring()).checked_add(4 + 2 * u64::from(place))?;
        memory.load(at, Ordering::Relaxed).map(u16::from_le).ok()
    }

    /// The next message; `None` where there is none, or the ring is disabled.
    ///
    /// # Errors
    /// The driver made nonsense of the ring. It is not served any more.
    pub fn take<'a>(
        &mut self,
        memory: &'a GuestMemoryMmap,
    ) -> Result<Option<DescriptorChain<&'a GuestMemoryMmap>>, RingError> {
        if !self.is_enabled() {
            return Ok(None);
        }
        match self.next(memory) {
            Ok(chain) => Ok(chain),
            Err(error) => {
                self.broken = true;
                self.notice = Notice::Unknown;
                self.err.iter().for_each(eventfd::signal);
                Err(error)
            }
        }
    }

    fn next<'a>(
        &mut self,
        memory: &'a GuestMemoryMmap,
    ) -> Result<Option<DescriptorChain<&'a GuestMemoryMmap>>, RingError> {
        if let Some((chain, serial)) = self.again.next(&self.queue, memory)? {
            (self.serial, self.retaken) = (serial, true);
            return Ok(Some(chain));
        }
        self.retaken = false;
        let chain = self.queue.iter(memory)?.next();
        if let Some(chain) = &chain {
            self.serial = match &mut self.inflight {
                Some(inflight) => inflight.take(chain.head_index()),
                None => self.serial + 1,
            };
        }
        Ok(chain)
    }

    /// Gives a message back with `length` bytes written to it.
    pub fn give_back(&mut self, memory: &GuestMemoryMmap, head: u16, length: u32) {
        if let Some(inflight) = &mut self.inflight {
            inflight.give_back(head);
        }
        // A head outside the ring is the driver's fault; nothing can be given back for it.
        if self.queue.add_used(memory, head, length).is_ok() {
            self.unannounced = true;
        }
        if let Some(inflight) = &mut self.inflight {
            inflight.given_back(self.queue.next_used());
        }
    }

    /// Interrupts the driver if it wants that for what was given back since the last call.
    pub fn announce(&mut self, memory: &GuestMemoryMmap) {
        if !std::mem::take(&mut self.unannounced) {
            return;
        }
        if self.queue.needs_notification(memory).unwrap_or(true) {
            self.announce_anyway();
        }
    }

    /// Interrupts the driver whatever it wants: what was announced before may have gone nowhere.
    fn announce_anyway(&self) {
        self.call.iter().for_each(eventfd::signal);
    }

    /// Lets the driver kick for its next message, or keeps it from doing so. Returns whether there
    /// are messages that came before the driver could know.
    pub fn listen(&mut self, memory: &GuestMemoryMmap, wanted: bool) -> bool {
        if self.broken || !self.enabled {
            return false;
        }
        let next = self.queue.next_avail();
        if !wanted {
            self.deafen(memory, next);
            return false;
        }
        if self.notice == Notice::Wanted(next) {
            // Whatever came since has brought a kick.
            return false;
        }
        self.notice = Notice::Wanted(next);
        self.queue.enable_notification(memory).unwrap_or(false)
    }

    fn deafen(&mut self, memory: &GuestMemoryMmap, next: u16) {
        // Said again long before the driver has come half of the way to the index.
        if let Notice::Unwanted(since) = self.notice
            && next.wrapping_sub(since) < FAR / 2
        {
            return;
        }
        self.notice = Notice::Unwanted(next);
        let size = u64::from(self.queue.size());
        let (value, offset) = if self.queue.event_idx_enabled() {
            (next.wrapping_add(FAR), 4 + 8 * size)
        } else {
            (NO_NOTIFY, 0)
        };
        if let Some(at) = GuestAddress(self.queue.used_ring()).checked_add(offset) {
            // A driver that does not see it at once kicks once more than it needs to.
            let _ = memory.store(value.to_le(), at, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
