// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `virtio-loopback status --watch`: the same again and again, on a terminal as one table that lives.

mod frame;
mod screen;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::driver::{DeviceName, DriverError};
use crate::inspect::{self, Look, Report, overview};
use crate::signals::{Signals, end_at_once};
use frame::frame;
use screen::{Screen, Wish};

/// Watching cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// sigaction()
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// The devices cannot be looked at.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The terminal.
    #[error("cannot use the terminal; without one, for example with | cat, this prints lines")]
    Terminal(#[source] io::Error),
    /// Standard output.
    #[error("cannot write")]
    Output(#[source] io::Error),
    /// It does not fit JSON.
    #[error("cannot write JSON")]
    Json(#[from] serde_json::Error),
}

/// How a table is shown on standard output: with colours and in its width, if that is a terminal.
pub fn look_of_output() -> Look {
    if !io::stdout().is_terminal() {
        return Look::default();
    }
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    Look {
        colours: !is_set("NO_COLOR") && !is_dumb(),
        width: crossterm::terminal::size().ok().map(|(width, _)| width),
    }
}

/// A terminal that can do nothing but lines.
fn is_dumb() -> bool {
    env::var_os("TERM").is_none_or(|name| name == "dumb" || name.is_empty())
}

/// Shows all devices, or the one of this name, every `period` until a key or a signal ends it.
///
/// # Errors
/// Any [`WatchError`]. On a terminal, devices that cannot be looked at are waited for.
pub fn watch(name: Option<&DeviceName>, period: Duration, json: bool) -> Result<(), WatchError> {
    // What is wrong from the start is told in the usual way.
    let reports = inspect::status(name)?;
    if json || !io::stdout().is_terminal() || is_dumb() {
        print_lines(name, period, |reports| text_of(reports, json))
    } else {
        let signals = Signals::register().map_err(WatchError::Signals)?;
        live(name, period, &signals, Ok(reports))
    }
}

/// The devices at one moment: the table, and what is not well.
pub fn text(reports: &[Report], look: Look) -> String {
    if reports.is_empty() {
        return inspect::list_table(reports);
    }
    let notes = inspect::notes(reports);
    let gap = (!notes.is_empty()).then(String::new);
    let lines = [overview(reports, look)]
        .into_iter()
        .chain(gap)
        .chain(notes);
    lines.collect::<Vec<_>>().join("\n")
}

/// One table, or one line of JSON, each time.
fn text_of(reports: &[Report], json: bool) -> Result<String, WatchError> {
    Ok(match json {
        true => inspect::printable_json(&serde_json::to_string(reports)?) + "\n",
        false => text(reports, Look::default()) + "\n\n",
    })
}

fn print_lines(
    name: Option<&DeviceName>,
    period: Duration,
    text: impl Fn(&[Report]) -> Result<String, WatchError>,
) -> Result<(), WatchError> {
    // Whoever reads may have stopped, and a write wait for that.
    end_at_once().map_err(WatchError::Signals)?;
    loop {
        let text = text(&inspect::status(name)?)?;
        let mut output = io::stdout().lock();
        let written = output.write_all(text.as_bytes());
        match written.and_then(|()| output.flush()) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(WatchError::Output)?,
        }
        thread::sleep(period);
    }
}

fn live(
    name: Option<&DeviceName>,
    period: Duration,
    signals: &Signals,
    mut reports: Result<Vec<Report>, DriverError>,
) -> Result<(), WatchError> {
    let mut screen = Screen::enter().map_err(WatchError::Terminal)?;
    let colours = look_of_output().colours;
    loop {
        let due = Instant::now() + period;
        loop {
            let size = screen.size().map_err(WatchError::Terminal)?;
            let lines = frame(&reports, size, period, colours);
            screen.draw(&lines).map_err(WatchError::Terminal)?;
            match screen.wait(due, signals).map_err(WatchError::Terminal)? {
                Wish::End => return Ok(()),
                Wish::Redraw => {}
                Wish::None => break,
            }
        }
        reports = inspect::status(name);
    }
}
