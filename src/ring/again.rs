// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Messages of a ring that a dead process had taken: they are taken again, before any other. Their
//! places in the driver's available ring may hold other messages by now, so a ring of this process's
//! own says where they begin.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryMmap};

use crate::inflight::Taken;
use crate::memory::OWN_PAGE;
use crate::ring::RingError;

/// The messages to be taken again, oldest first.
#[derive(Default)]
pub struct Again(VecDeque<Taken>);

impl Again {
    /// These.
    pub fn new(taken: Vec<Taken>) -> Self {
        Self(taken.into())
    }

    /// How many are left.
    pub fn left(&self) -> impl Iterator<Item = Taken> {
        self.0.iter().copied()
    }

    /// The next one of `queue`, and its number.
    ///
    /// # Errors
    /// There is no page of this process's own to say it with.
    pub fn next<'a>(
        &mut self,
        queue: &Queue,
        memory: &'a GuestMemoryMmap,
    ) -> Result<Option<(DescriptorChain<&'a GuestMemoryMmap>, u64)>, RingError> {
        let Some(taken) = self.0.pop_front() else {
            return Ok(None);
        };
        let own = |offset: u64| OWN_PAGE.unchecked_add(offset);
        let said = memory
            .store(1u16.to_le(), own(2), Ordering::Release)
            .and_then(|()| memory.store(taken.head.to_le(), own(4), Ordering::Release));
        if said.is_err() {
            return Err(RingError::Place);
        }
        let mut one = Queue::new(queue.max_size())?;
        one.try_set_size(queue.size())?;
        one.try_set_desc_table_address(GuestAddress(queue.desc_table()))?;
        one.try_set_avail_ring_address(OWN_PAGE)?;
        one.set_ready(true);
        let chain = one.iter(memory)?.next();
        Ok(chain.map(|chain| (chain, taken.serial)))
    }
}
