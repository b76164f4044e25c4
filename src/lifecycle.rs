// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How rings come and go: a connection that drops leaves them in service, the next one goes on with
//! them; a ring that is stopped in order tells where it stopped.

use std::fs::File;
use std::sync::Arc;

use crate::audio::Nanos;
use crate::card::Card;
use crate::memory::Memory;
use crate::report::Report;
use crate::ring::{Ring, RingError, Setup};
use crate::stream::State;
use crate::wire::{QUEUE_CONTROL, Status};

impl Card {
    /// Serves a ring. One that is in service already, in the same memory and at the same place,
    /// keeps its indices and its messages; only its eventfds and the mapping are replaced.
    ///
    /// # Errors
    /// The ring cannot be served.
    pub fn start_ring(
        &mut self,
        queue: usize,
        setup: Setup,
        memory: &Arc<Memory>,
        now: Nanos,
    ) -> Result<(), RingError> {
        let same = self
            .memory
            .as_ref()
            .is_some_and(|known| known.is_same(memory));
        // A driver has asked for the card's streams before it plays, so its control ring shows best
        // whether it was reset since.
        let control = self.rings.get(QUEUE_CONTROL).and_then(Option::as_ref);
        if !same || control.is_some_and(|ring| !ring.is_intact(memory.map())) {
            self.rings = Default::default();
            self.reset(now);
        }
        self.memory = Some(Arc::clone(memory));
        let known = self.rings.get_mut(queue).and_then(Option::as_mut);
        if let Some(ring) = known.filter(|ring| ring.is_at(&setup, memory.map())) {
            ring.adopt(setup);
            if queue == QUEUE_CONTROL {
                // It was reset before its driver had used anything, and no ring has changed since.
                self.suspended = false;
            }
            self.report(Report::RingStarted(queue, true));
            return Ok(());
        }
        let base = setup.base;
        let mut ring = Ring::new(setup, memory.map())?;
        self.forget_messages(queue);
        let left = self.go_on(queue, &mut ring, memory.map());
        if queue == QUEUE_CONTROL {
            // A driver that starts at index 0 has reset the device and knows of no stream; or it was
            // another process that served it, and knew.
            let fresh = !self.take_over(left, now) && base == 0;
            if fresh {
                self.reset(now);
            } else {
                self.resume(now);
            }
            self.events.driver_started(fresh, now);
            self.suspended = false;
        }
        if let Some(place) = self.rings.get_mut(queue) {
            *place = Some(ring);
        }
        self.report(Report::RingStarted(queue, false));
        Ok(())
    }

    /// Stops serving a ring. Returns the index at which it goes on; messages that are still held
    /// will be taken again from there. `None` where the ring is not in service.
    pub fn stop_ring(&mut self, queue: usize, now: Nanos) -> Option<u16> {
        if queue == QUEUE_CONTROL {
            self.suspend(now);
        }
        let mut ring = self.rings.get_mut(queue).and_then(Option::take)?;
        let base = ring.next_avail();
        let held = self.give_up_messages(queue, &mut ring);
        Some(base.wrapping_sub(held))
    }

    /// Gives up the messages of a queue; returns how many of them can be taken again, all of them
    /// or none: those that are not the last ones taken are given back unplayed.
    fn give_up_messages(&mut self, queue: usize, ring: &mut Ring) -> u16 {
        let Some(memory) = self.memory.clone() else {
            return 0;
        };
        if queue == QUEUE_CONTROL {
            return 0;
        }
        let pcms = || self.pcms.iter().filter(|pcm| pcm.queue() == queue);
        let held: usize = pcms().map(|pcm| pcm.lane.held()).sum();
        let held = u16::try_from(held).unwrap_or(u16::MAX);
        let newest = (1..=held).all(|back| {
            let head = ring.taken_before(memory.map(), back);
            head.is_some_and(|head| pcms().any(|pcm| pcm.lane.holds(head)))
        });
        if newest {
            self.forget_messages(queue);
            return held;
        }
        for pcm in self.pcms.iter_mut().filter(|pcm| pcm.queue() == queue) {
            pcm.flush(memory.map(), Some(ring), Status::IoError);
        }
        ring.announce(memory.map());
        0
    }

    /// Replaces the memory under the rings, as a frontend does that plugs memory in.
    pub fn set_memory(&mut self, memory: Arc<Memory>) {
        if self.memory.is_some() {
            self.memory = Some(memory);
        }
    }

    /// SET_VRING_ENABLE.
    pub fn enable_ring(&mut self, queue: usize, enabled: bool) {
        if let Some(Some(ring)) = self.rings.get_mut(queue) {
            ring.set_enabled(enabled);
        }
    }

    /// SET_VRING_CALL for a ring in service.
    pub fn set_call(&mut self, queue: usize, call: Option<File>) {
        if let Some(Some(ring)) = self.rings.get_mut(queue) {
            ring.set_call(call);
        }
    }

    /// Brings every stream back to its first state and closes what it held.
    pub fn reset(&mut self, now: Nanos) {
        self.suspend(now);
        for pcm in &mut self.pcms {
            pcm.lane.forget();
            pcm.params = None;
            pcm.state = State::Idle;
            pcm.give_up_resuming();
        }
        self.restored = None;
        self.note_all(now);
    }

    /// The driver's rings are gone for now: nothing is played, and the host's devices are free for
    /// others.
    fn suspend(&mut self, now: Nanos) {
        for id in 0..self.pcms.len() {
            let Some(pcm) = self.pcms.get_mut(id) else {
                continue;
            };
            if pcm.state == State::Running && !self.suspended {
                pcm.stop(&mut *self.host, now);
                let tally = pcm.tally;
                self.report(Report::Stopped(id, tally));
            }
            self.host.release(id);
        }
        self.suspended = true;
    }

    /// The rings are back, and the driver believes that its streams are as it left them.
    fn resume(&mut self, now: Nanos) {
        if !self.suspended {
            return;
        }
        for id in 0..self.pcms.len() {
            let Some(pcm) = self.pcms.get_mut(id) else {
                continue;
            };
            let Some(params) = pcm.params.filter(|_| pcm.state.takes_messages()) else {
                continue;
            };
            if pcm.is_resuming() {
                self.host.inherit(id, pcm.tally.frames);
            }
            let mut result = self.host.prepare(id, &params);
            if pcm.state == State::Running && !pcm.is_resuming() {
                // What cannot be opened is silent: its driver waits for its messages all the same.
                result = pcm.start(&mut *self.host, now).and(result);
            }
            if let Err(error) = result {
                self.report(Report::Failed(id, error));
            }
        }
    }

    fn forget_messages(&mut self, queue: usize) {
        for pcm in self.pcms.iter_mut().filter(|pcm| pcm.queue() == queue) {
            pcm.lane.forget();
        }
    }
}
