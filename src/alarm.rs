// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Waking the thread at the other end of a queue, also when this end goes.

use std::sync::Arc;

use nix::sys::eventfd::EventFd;

/// Wakes who waits for this eventfd, also when it goes itself. Behind the end of a queue in a struct, it goes
/// last: who is woken finds the queue abandoned.
pub struct Alarm(pub Arc<EventFd>);

impl Alarm {
    /// Wakes who waits.
    pub fn ring(&self) {
        // The counter is full only if it has been woken already.
        let _ = self.0.write(1);
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.ring();
    }
}
