// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The audio thread before it has a card: it becomes real-time while the process may still do that,
//! and then gives up, for itself, what the process gives up.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::process::Priority;
use crate::realtime;
use crate::sandbox::Rights;

type Work = Box<dyn FnOnce() + Send>;

/// A thread that waits for its work.
pub struct AudioThread {
    work: SyncSender<Work>,
    thread: JoinHandle<()>,
}

impl AudioThread {
    /// Starts the thread, with this priority, and takes all capabilities but these from it.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(priority: Priority, rights: Rights) -> io::Result<Self> {
        let (work, given) = sync_channel::<Work>(1);
        let (ready, is_ready) = sync_channel::<()>(1);
        let thread = std::thread::Builder::new()
            .name("audio".to_owned())
            .stack_size(realtime::STACK)
            .spawn(move || {
                realtime::enter(priority);
                rights.drop_others();
                drop(ready);
                if let Ok(work) = given.recv() {
                    work();
                }
            })?;
        // Ends when the thread has let go of the other end.
        let _ = is_ready.recv();
        Ok(Self { work, thread })
    }

    /// Has the thread do this until its end.
    pub fn run(self, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
        // The thread lives until it has been given something.
        let _ = self.work.send(Box::new(work));
        self.thread
    }
}
