// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Waits for the kernel, the device process and signals, and sleeps while nothing happens.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use log::Level;
use nix::poll::{PollFd, PollFlags};

use crate::device_process::{DeviceProcess, ProcessError};
use crate::device_type::DeviceType;
use crate::driver::sysfs::DRIVERS;
use crate::driver::{Driver, DriverError, State};
use crate::news::News;
use crate::readiness::Readiness;
use crate::session::{Handled, Session, SessionError};
use crate::signals::{Signals, poll_until};

/// How long a driver may take to be bound to a new device before the user is told.
const DRIVER_TIME: Duration = Duration::from_secs(5);
/// So long after a start that came too late a driver gives the device up for that: virtio_snd waits a
/// second for each of a few answers.
const LATE_TIME: Duration = Duration::from_secs(10);
/// How long the kernel may take to start the device again by itself.
const ANOTHER_START: Duration = Duration::from_millis(300);
/// How often a device that is being destroyed is looked for.
const DYING_PERIOD: Duration = Duration::from_millis(50);

/// Why the event loop ended, if not by an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A signal.
    Signal,
    /// The kernel device is gone.
    Destroyed,
    /// The kernel device is being destroyed; the time for that is up.
    StillOpen,
    /// The device process closed its connection.
    BackendClosed,
    /// The device process took too long to start: the kernel does not know that it serves, or the driver
    /// has given the device up, which nobody probes again. Who attaches again has that done; a start is
    /// quick where the device process goes on.
    StartedLate,
    /// The COMMAND ended.
    CommandEnded(ExitStatus),
    /// The COMMAND was stopped by a signal.
    CommandStopped,
}

/// The event loop cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// poll()
    #[error("cannot wait for events")]
    Poll(#[source] io::Error),
    /// Serving the device.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Watching the COMMAND.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl From<DriverError> for LoopError {
    fn from(error: DriverError) -> Self {
        Self::Session(error.into())
    }
}

/// Where the device process's connection is among the files to poll.
const BACKEND: usize = 1;

/// What is ready.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    request: bool,
    destroyed: bool,
    backend_closed: bool,
    config_changed: bool,
}

/// One session with everything that can happen to it.
pub struct EventLoop<'a, D> {
    session: &'a mut Session<D>,
    signals: &'a Signals,
    process: Option<&'a mut DeviceProcess>,
    readiness: &'a mut Readiness,
    /// Told behind what there is to do.
    news: &'a mut News,
    /// What the user is told of when no driver takes it.
    device: DeviceType,
    driver_due: Option<Instant>,
    served: bool,
    /// Since when the last start has been one that the kernel did not wait for.
    late: Option<Instant>,
    /// When that ends the loop if there is no request: the device may be started again without that.
    ends_late: Option<Instant>,
    dying: bool,
    /// Until when a device that is being destroyed is waited for; `None`: for ever.
    gone_due: Option<Instant>,
}

impl<'a, D: Driver + AsFd> EventLoop<'a, D> {
    /// An event loop for `session`, and for the device process if it is our child.
    ///
    /// `readiness` hears when it is served. `news` is told after the first requests, and what drives a
    /// `device` of this type when no driver of this kernel takes it within some seconds.
    pub fn new(
        session: &'a mut Session<D>,
        signals: &'a Signals,
        process: Option<&'a mut DeviceProcess>,
        readiness: &'a mut Readiness,
        news: &'a mut News,
        device: DeviceType,
    ) -> Self {
        let driver_due = Some(Instant::now() + DRIVER_TIME);
        Self {
            session,
            signals,
            process,
            readiness,
            news,
            device,
            driver_due,
            served: false,
            late: None,
            ends_late: None,
            dying: false,
            gone_due: None,
        }
    }

    /// Serves until something ends it.
    ///
    /// # Errors
    /// Any [`LoopError`]; the device process's end of the connection is an [`Ending`].
    pub fn run(&mut self) -> Result<Ending, LoopError> {
        loop {
            let turned = self.turn();
            self.news.tell();
            match turned {
                Ok(None) => {}
                Ok(Some(ending)) => return Ok(ending),
                Err(LoopError::Session(error)) if error.is_backend_closed() => {
                    log::debug!("{error}");
                    return match self.command_status()? {
                        Some(ending) => Ok(ending),
                        // It is for us to end one that hangs.
                        None if self.process.is_some() && error.is_no_answer() => Err(error.into()),
                        None => Ok(Ending::BackendClosed),
                    };
                }
                Err(LoopError::Session(error)) if error.is_device_gone() => self.dying = true,
                Err(LoopError::Session(error)) if error.is_interrupted() => {
                    log::debug!("{error}");
                    if self.gone_due.is_none() {
                        return Ok(Ending::Signal);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Serves on until the device, whose destruction has been asked for, is gone; until `due`
    /// at most.
    ///
    /// # Errors
    /// As [`EventLoop::run`].
    pub fn run_until_gone(&mut self, due: Instant) -> Result<Ending, LoopError> {
        self.dying = true;
        self.gone_due = Some(due);
        self.run()
    }

    /// Waits once and acts once.
    fn turn(&mut self) -> Result<Option<Ending>, LoopError> {
        let ready = self.wait()?;
        self.signals.drain();
        // run_until_gone() is what a signal has led to.
        if self.signals.end_requested() && self.gone_due.is_none() {
            return Ok(Some(Ending::Signal));
        }
        if let Some(ending) = self.command_status()? {
            return Ok(Some(ending));
        }
        let ends_late = self.ends_late.is_some_and(|due| Instant::now() >= due);
        if ready.request || ends_late {
            let handled = self.handle_request()?;
            if !handled && ends_late && self.ends_late.take().is_some() && !self.dying {
                return Ok(Some(Ending::StartedLate));
            }
        }
        if ready.backend_closed {
            return Ok(Some(Ending::BackendClosed));
        }
        if ready.config_changed && self.session.backend().take_config_change() {
            log::debug!("the device process has changed its config space");
            self.session.refresh_config()?;
        }
        self.watch_driver()?;
        self.readiness.look();
        self.dying |= ready.destroyed;
        if self.dying {
            self.look_for_device()
        } else {
            Ok(None)
        }
    }

    fn wait(&self) -> Result<Ready, LoopError> {
        let backend = self.session.backend();
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut files = vec![readable(self.signals.as_fd()), readable(backend.as_fd())];
        let requests = backend.requests().map(|fd| add(&mut files, readable(fd)));
        // A device that is being destroyed reports that all the time; its requests are looked for
        // at every turn instead.
        let driver = self.session.driver();
        let driver = (!self.dying).then(|| add(&mut files, readable(driver.as_fd())));
        poll_until(&mut files, self.next_due()).map_err(LoopError::Poll)?;

        let events = |at: usize| files.get(at).and_then(PollFd::revents);
        let any = |at: usize| events(at).is_some_and(|events| !events.is_empty());
        let driver = driver.and_then(events).unwrap_or(PollFlags::POLLIN);
        Ok(Ready {
            request: driver.contains(PollFlags::POLLIN),
            destroyed: driver.intersects(PollFlags::POLLHUP | PollFlags::POLLERR),
            backend_closed: any(BACKEND),
            config_changed: requests.is_some_and(any),
        })
    }

    fn next_due(&self) -> Option<Instant> {
        if !self.news.is_empty() {
            Some(Instant::now())
        } else if self.dying {
            Some(Instant::now() + DYING_PERIOD)
        } else {
            let due = [self.driver_due, self.readiness.due(), self.ends_late];
            due.into_iter().flatten().min()
        }
    }

    /// Whether the driver's queues are served now.
    pub fn is_serving(&self) -> bool {
        self.session.is_serving()
    }

    /// Whether the device is being destroyed, or gone: another one may have its name.
    pub fn is_dying(&self) -> bool {
        matches!(self.session.driver().device(), Err(DriverError::Gone))
    }

    /// Whether the driver's queues have been served, if only for a moment.
    pub fn has_served(&self) -> bool {
        self.served
    }

    /// False: there was none.
    fn handle_request(&mut self) -> Result<bool, LoopError> {
        let handled = match self.session.handle_request() {
            // While the device is dying: there is no request now.
            Err(error) if self.dying && error.is_device_gone() => None,
            handled => handled?,
        };
        match handled {
            Some(Handled::Started { resumed: true }) => self.started("serving again"),
            Some(Handled::Started { resumed: false }) => self.started("serving"),
            Some(Handled::StartedLate { serving }) => {
                if serving {
                    self.started("serving, but too late for the kernel");
                }
                self.late = Some(Instant::now());
                self.ends_late = Some(Instant::now() + ANOTHER_START);
            }
            Some(Handled::Stopped) => {
                // A driver whose start came too late does not come back by itself. One that somebody
                // has unbound just then is bound again; the two look the same from here.
                let late = self.late.filter(|since| since.elapsed() < LATE_TIME);
                self.ends_late = late.map(|_| Instant::now() + ANOTHER_START);
                // It may have given the device up.
                self.driver_due = Some(Instant::now() + DRIVER_TIME);
                log::info!("stopped by the driver");
            }
            Some(Handled::ConfigWritten) | None => {}
        }
        Ok(handled.is_some())
    }

    fn started(&mut self, text: &str) {
        self.driver_due = None;
        self.served = true;
        (self.late, self.ends_late) = (None, None);
        self.readiness.served();
        self.news.add(Level::Info, text.into());
    }

    fn command_status(&mut self) -> Result<Option<Ending>, LoopError> {
        Ok(command_ending(self.process.as_deref_mut())?)
    }

    /// Tells the user once if the device has no driver.
    fn watch_driver(&mut self) -> Result<(), LoopError> {
        if self.dying || self.driver_due.is_none_or(|due| Instant::now() < due) {
            return Ok(());
        }
        self.driver_due = None;
        let device = self.session.driver().device()?;
        match (device.driver_bound, device.state) {
            (false, State::Idle) => log::warn!(
                "no driver in this kernel has taken virtio device {}: {}",
                self.device,
                self.device.driver_advice(Path::new(DRIVERS))
            ),
            (true, State::Idle) => log::warn!(
                "a driver has taken the device, but has not started it: the kernel log may say why"
            ),
            _ => {}
        }
        Ok(())
    }

    fn look_for_device(&self) -> Result<Option<Ending>, LoopError> {
        if !self.session.driver().is_dying()? {
            return Ok(Some(Ending::Destroyed));
        }
        let late = self.gone_due.is_some_and(|due| Instant::now() >= due);
        Ok(late.then_some(Ending::StillOpen))
    }
}

/// Whether the COMMAND, if there is one, serves no more.
///
/// # Errors
/// [`ProcessError::Watch`]
pub fn command_ending(process: Option<&mut DeviceProcess>) -> Result<Option<Ending>, ProcessError> {
    let Some(process) = process else {
        return Ok(None);
    };
    if let Some(status) = process.exit_status()? {
        return Ok(Some(Ending::CommandEnded(status)));
    }
    Ok(process.is_stopped()?.then_some(Ending::CommandStopped))
}

/// Appends; returns where it is.
fn add<'f>(files: &mut Vec<PollFd<'f>>, file: PollFd<'f>) -> usize {
    files.push(file);
    files.len() - 1
}

#[cfg(test)]
mod tests;
