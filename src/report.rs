// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the audio thread has to say, and the thread that says it: the audio thread itself never
//! writes a log, nor waits for who does.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use rtrb::{Consumer, Producer, RingBuffer};

use crate::alarm::Alarm;
use crate::audio::HostError;
use crate::pcm::Tally;
use crate::ring::RingError;
use crate::stream::Params;

/// The audio thread's end: a queue without locks.
pub struct Reporter {
    queue: RefCell<Producer<Report>>,
    unheard: Cell<bool>,
    // Goes last: the log finds the queue abandoned.
    alarm: Alarm,
}

impl Reporter {
    /// Takes a report down. Where nobody keeps up, reports are lost.
    pub fn report(&self, report: Report) {
        if let Ok(mut queue) = self.queue.try_borrow_mut() {
            let _ = queue.push(report);
            self.unheard.set(true);
        }
    }

    /// Wakes the log if there is news for it.
    pub fn flush(&self) {
        if self.unheard.take() {
            self.alarm.ring();
        }
    }
}

/// The log's end.
pub struct Reports {
    queue: Consumer<Report>,
    wake: Arc<EventFd>,
}

/// A way to the log for `capacity` reports.
///
/// # Errors
/// The system gives no eventfd.
pub fn channel(capacity: usize) -> Result<(Reporter, Reports), Errno> {
    let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
    let (producer, queue) = RingBuffer::new(capacity);
    let reporter = Reporter {
        queue: RefCell::new(producer),
        unheard: Cell::new(false),
        alarm: Alarm(Arc::clone(&wake)),
    };
    Ok((reporter, Reports { queue, wake }))
}

impl Iterator for Reports {
    type Item = Report;

    /// Waits for the next report; `None` when there will be none.
    fn next(&mut self) -> Option<Report> {
        loop {
            let last = self.queue.is_abandoned();
            if let Ok(report) = self.queue.pop() {
                return Some(report);
            }
            if last || matches!(self.wake.read(), Err(error) if error != Errno::EINTR) {
                return None;
            }
        }
    }
}

/// What the card tells the log.
#[derive(Debug)]
pub enum Report {
    /// A stream has parameters.
    Configured(usize, Params),
    /// The clock of a stream runs.
    Started(usize),
    /// The clock of a stream stands.
    Stopped(usize, Tally),
    /// The host behind a stream failed.
    Failed(usize, HostError),
    /// What the host behind a stream failed at works again.
    Returned(usize),
    /// The card goes on where another process had died, for the so many-th time.
    TakenOver(u64),
    /// A ring is not served any more.
    RingLost(usize, RingError),
    /// A ring is served; `true` where it goes on from an earlier connection.
    RingStarted(usize, bool),
    /// The audio thread cannot wait for its eventfds.
    PollFailed(std::io::Error),
}

/// Writes what the audio thread reports; `labels` name the streams.
pub fn write_log(reports: Reports, labels: &[String]) {
    let label = |stream: usize| labels.get(stream).map_or("stream", String::as_str);
    for report in reports {
        match report {
            Report::Configured(stream, params) => log::info!(
                "{}: {:?}, {} Hz, {} channels, period {}, buffer {} bytes",
                label(stream),
                params.format,
                params.rate,
                params.channels,
                params.period_bytes,
                params.buffer_bytes
            ),
            Report::Started(stream) => log::info!("{}: started", label(stream)),
            Report::Stopped(stream, tally) if tally.gaps > 0 => log::warn!(
                "{}: stopped after {} frames; {} gaps of {} frames in all",
                label(stream),
                tally.frames,
                tally.gaps,
                tally.lost
            ),
            Report::Stopped(stream, tally) => {
                log::info!("{}: stopped after {} frames", label(stream), tally.frames);
            }
            Report::Failed(stream, error) => log::error!("{}: {error}", label(stream)),
            Report::Returned(stream) => {
                log::warn!("{}: what it uses is back", label(stream));
            }
            Report::TakenOver(restarts) => {
                log::warn!("goes on where another process has died; restarts so far: {restarts}");
            }
            Report::RingLost(queue, error) => {
                log::error!("queue {queue} is not served any more: {error}");
            }
            Report::RingStarted(queue, true) => log::info!("queue {queue}: goes on"),
            Report::RingStarted(queue, false) => log::info!("queue {queue}: started"),
            Report::PollFailed(error) => log::error!("the audio thread cannot wait: {error}"),
        }
    }
}
