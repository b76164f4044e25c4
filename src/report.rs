// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the audio thread has to say, and the thread that says it: the audio thread itself never
//! writes a log.

use std::sync::mpsc::Receiver;

use crate::audio::HostError;
use crate::pcm::Tally;
use crate::ring::RingError;
use crate::stream::Params;

/// What the card tells the log. Sent without waiting: where nobody keeps up, reports are lost.
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
    /// A ring is not served any more.
    RingLost(usize, RingError),
    /// A ring is served; `true` where it goes on from an earlier connection.
    RingStarted(usize, bool),
    /// The audio thread cannot wait for its eventfds.
    PollFailed(std::io::Error),
}

/// Writes what the audio thread reports; `labels` name the streams.
pub fn write_log(reports: &Receiver<Report>, labels: &[String]) {
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
                log::warn!("{}: its sound card is back", label(stream));
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
