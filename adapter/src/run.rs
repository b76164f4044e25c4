// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `virtio-loopback run`: connect, negotiate, create or attach, serve.
//!
//! A device process at the other end of a socket may go and come back; each time is the same
//! sequence from the beginning, with an attach by name, exactly as for a new adapter.

mod connect;
mod error;
mod leave;
mod take;

use std::error::Error;
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use log::Level;
use virtio_bindings::virtio_ids::VIRTIO_ID_SOUND;

use crate::backend::{ANSWER_LIMIT, Backend};
use crate::command_socket;
use crate::destroy::DESTROY_TIME;
use crate::device_process::{DeviceProcess, THIS_PROGRAM};
use crate::device_type::DeviceType;
use crate::driver::{ALSA_ID_MAX, ControlFile, Device, DeviceName, DriverError, State};
use crate::event_loop::{Ending, EventLoop, LoopError, command_ending};
use crate::inflight::Inflight;
use crate::news::News;
use crate::readiness::Readiness;
use crate::session::{Offer, Overrides, Session};
use crate::signals::Signals;

use connect::{BackOff, Restarts, connect};
use leave::ask_to_go;
use take::{check_type, take_device};

pub use error::RunError;

/// How long the first connection to a socket is tried.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long a socket may hang up on the first connection, and be tried again.
const HANG_UPS: Duration = Duration::from_secs(2);
/// How long a COMMAND that closed its connection may take to end by itself.
const END_TIME: Duration = Duration::from_secs(1);

/// Where the device process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceProcessAt {
    /// It listens on a socket.
    Socket(PathBuf),
    /// It is to be started, with a connected socket, or to listen on this one.
    Command(Vec<OsString>, Option<PathBuf>),
}

/// What `run` is asked for.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Of the kernel device.
    pub name: DeviceName,
    /// Of the kernel device.
    pub device: DeviceType,
    /// What replaces entries of the table of device types.
    pub overrides: Overrides,
    /// Where the device process is.
    pub process: DeviceProcessAt,
    /// Destroy the kernel device at the end.
    pub ephemeral: bool,
}

/// Runs one adapter until a signal ends it.
///
/// # Errors
/// Any [`RunError`].
pub fn run(options: &RunOptions) -> Result<(), RunError> {
    let signals = &Signals::register().map_err(RunError::Signals)?;
    if !wait_for_name(options, signals)? {
        return Ok(());
    }
    let mut run = Run::new(options, signals);
    let result = match &options.process {
        DeviceProcessAt::Socket(path) => run.at_socket(path, None).map(drop),
        DeviceProcessAt::Command(command, socket) => run.with_command(command, socket.as_deref()),
    };
    run.news.tell();
    match run.leave_device() {
        // What ended the run is the better report.
        Err(error) if result.is_err() => log::warn!("{error}"),
        left => left?,
    }
    result
}

/// An error and its first cause.
fn with_cause(error: &RunError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Tells what is wrong before a device process is bothered, and waits until a device of this name
/// that is on its way out has gone; false if a signal is to end this run.
fn wait_for_name(options: &RunOptions, signals: &Signals) -> Result<bool, RunError> {
    let name = &options.name;
    if let (VIRTIO_ID_SOUND, Some(id)) = (options.device.id, name.shortened_alsa_id()) {
        log::warn!("an ALSA card id has at most {ALSA_ID_MAX} characters: the card is {id}");
    }
    let control = ControlFile::open()?;
    let mut back_off = BackOff::new();
    let mut said = false;
    while let Some(device) = control.find(name)? {
        if device.attached {
            return Err(DriverError::NameTaken(name.to_string()).into());
        }
        if device.state != State::Dying {
            check_type(&device, options.device.id)?;
            break;
        }
        if !said {
            log::warn!("{}; waiting for that", DriverError::Dying(name.to_string()));
            said = true;
        }
        signals.wait(back_off.next()).map_err(RunError::Signals)?;
        if signals.end_requested() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One run of the adapter.
struct Run<'a> {
    options: &'a RunOptions,
    signals: &'a Signals,
    readiness: Readiness,
    /// The kernel device has been created or attached by this run, and not destroyed since.
    has_device: bool,
    /// What the device process has in flight.
    inflight: Inflight,
    /// Until when the device, whose destruction has been asked for, is waited for.
    gone_due: Option<Instant>,
    /// Somebody has served its driver: a device process that does not is followed by one that does.
    served: bool,
    /// The kernel did not wait for the last device process to start.
    late: bool,
    /// The user has been told of what keeps the device from being served, and it does still.
    hindered: bool,
    /// What has happened since somebody was served, or waited for.
    news: News,
}

impl<'a> Run<'a> {
    fn new(options: &'a RunOptions, signals: &'a Signals) -> Self {
        Self {
            options,
            signals,
            readiness: Readiness::new(&options.name, &options.device),
            has_device: false,
            inflight: Inflight::of(&options.name),
            gone_due: None,
            served: false,
            late: false,
            hindered: false,
            news: News::default(),
        }
    }

    /// Starts the COMMAND, and starts it again whenever it goes; one that does not get as far as to
    /// have a device is not started again.
    fn with_command(
        &mut self,
        command: &[OsString],
        socket: Option<&Path>,
    ) -> Result<(), RunError> {
        let mut restarts = Restarts::new();
        loop {
            let since = Instant::now();
            let (why, text) = match self.command_once(command, socket) {
                Ok(None) => return Ok(()),
                Ok(Some(gone))
                | Err(gone @ (RunError::Process(_) | RunError::Loop(LoopError::Process(_))))
                    if self.has_device =>
                {
                    let text = format!("{}; it is started again", with_cause(&gone));
                    (gone, text)
                }
                Err(hindrance) if self.may_pass(&hindrance) => {
                    let text = self.hindrance(&hindrance, "starts another device process");
                    (hindrance, text)
                }
                Ok(Some(error)) | Err(error) => return Err(error),
            };
            if self.signals.end_requested() {
                return Ok(());
            }
            if self.is_news(&why) {
                self.news.add(Level::Warn, text);
            }
            self.readiness.unserved();
            if !self.pause(restarts.next(since.elapsed()))? {
                return Ok(());
            }
        }
    }

    /// Starts the COMMAND and serves with it. `None`: it is not to be started again.
    fn command_once(
        &mut self,
        command: &[OsString],
        socket: Option<&Path>,
    ) -> Result<Option<RunError>, RunError> {
        let commands = command_socket::of_new_process(&self.options.name);
        let (program, commands) = (Path::new(THIS_PROGRAM), commands.as_deref());
        let (mut process, served) = match socket {
            None => {
                let (mut process, socket) =
                    DeviceProcess::start_connected(program, command, commands)?;
                let served = self.serve(socket, Some(&mut process));
                (process, served)
            }
            Some(path) => {
                let mut process = DeviceProcess::start(program, command, commands)?;
                let served = self.at_socket(path, Some(&mut process));
                (process, served)
            }
        };
        let time = match &served {
            // It has hung up, so it is about to end; its exit status is the better report.
            Ok(Ending::BackendClosed) => END_TIME,
            Err(error) if error.is_backend_closed() => END_TIME,
            _ => Duration::ZERO,
        };
        let ended = process.wait(self.signals, time)?;
        if ended.is_none() {
            process.end(self.signals)?;
        }
        Ok(Some(match (served, ended) {
            (Ok(Ending::Signal | Ending::Destroyed | Ending::StillOpen), _) => return Ok(None),
            (Ok(Ending::CommandStopped), _) => RunError::CommandStopped,
            (Ok(Ending::CommandEnded(status)), _) => RunError::CommandEnded(status),
            (Ok(Ending::StartedLate), _) => RunError::StartedLate,
            (Ok(Ending::BackendClosed), Some(status)) => RunError::CommandEnded(status),
            (Ok(Ending::BackendClosed), None) => RunError::CommandSilent,
            (Err(error), Some(status)) if error.is_backend_closed() || error.is_nobody() => {
                log::debug!("{error}");
                RunError::CommandEnded(status)
            }
            (Err(error), None) if error.is_backend_closed() || error.is_nobody() => error,
            (Err(error), _) => return Err(error),
        }))
    }

    /// Serves with whoever listens on `path`, and with whoever does after that one has gone; until the
    /// `process` that is to listen there, if it is our child, has ended.
    fn at_socket(
        &mut self,
        path: &Path,
        mut process: Option<&mut DeviceProcess>,
    ) -> Result<Ending, RunError> {
        let begun = Instant::now();
        let mut give_up = Some(begun + CONNECT_TIME);
        let mut restarts = Restarts::new();
        while let Some(socket) = self.connect(path, give_up, process.as_deref_mut())? {
            let since = Instant::now();
            let (early, ours) = (begun.elapsed() < HANG_UPS, process.is_some());
            let served = self.serve(socket, process.as_deref_mut());
            if let Some(ending) = self.may_connect_again(served, path, early, ours)? {
                return Ok(ending);
            }
            self.readiness.unserved();
            if !self.pause(restarts.next(since.elapsed()))? {
                break;
            }
            if let Some(ending) = command_ending(process.as_deref_mut())? {
                return Ok(ending);
            }
            if self.has_device {
                give_up = ours.then(|| Instant::now() + CONNECT_TIME);
            }
        }
        Ok(command_ending(process)?.unwrap_or(Ending::Signal))
    }

    /// What becomes of a connection to `path` that is over. `None`: there may be another one, and the
    /// user is told why. `early`: a device process that hangs up may be one that is just ending.
    /// `ours`: it is our child.
    fn may_connect_again(
        &mut self,
        served: Result<Ending, RunError>,
        path: &Path,
        early: bool,
        ours: bool,
    ) -> Result<Option<Ending>, RunError> {
        let (name, place) = (&self.options.name, path.display());
        let gone = |why: &str| {
            format!("the device process has gone{why}; {name} waits for another one on {place}")
        };
        let text = match served {
            Ok(Ending::BackendClosed) => gone(""),
            Ok(Ending::StartedLate) => return Ok(None),
            Ok(ending) => return Ok(Some(ending)),
            // A COMMAND of ours is ended, and started again.
            Err(error) if ours && (error.is_refusal() || error.is_no_answer()) => {
                return Err(error);
            }
            // A device process that is just ending hangs up, too; its service manager has another.
            Err(error) if error.is_backend_closed() && (self.has_device || early) => {
                gone(&format!(": {error}"))
            }
            Err(error) if self.may_pass(&error) => {
                if !self.is_news(&error) {
                    return Ok(None);
                }
                let next = match error.is_refusal() {
                    true => &format!("waits for another device process on {place}"),
                    false => "tries on",
                };
                self.hindrance(&error, next)
            }
            Err(error) => return Err(error),
        };
        self.news.add(Level::Warn, text);
        Ok(None)
    }

    /// Whether the next try may do better, while applications have the device open: the machine lacks
    /// something, or this device process does not do as it is asked where another one did.
    fn may_pass(&self, error: &RunError) -> bool {
        self.has_device && (error.is_shortage() || self.served && error.is_refusal())
    }

    /// What the user is told of what may pass, and of what is done `next`.
    fn hindrance(&self, error: &RunError, next: &str) -> String {
        let (name, why) = (&self.options.name, with_cause(error));
        format!("cannot serve {name}, and {next}: {why}")
    }

    /// Whether the user is to be told: of what may pass once, until it has.
    fn is_news(&mut self, error: &RunError) -> bool {
        let hindered = self.may_pass(error);
        !(std::mem::replace(&mut self.hindered, hindered) && hindered)
    }

    fn connect(
        &mut self,
        path: &Path,
        give_up: Option<Instant>,
        process: Option<&mut DeviceProcess>,
    ) -> Result<Option<UnixStream>, RunError> {
        connect(path, self.signals, give_up, process, &mut self.news)
    }

    /// Waits; false if a signal is to end this run.
    fn pause(&mut self, time: Duration) -> Result<bool, RunError> {
        if !time.is_zero() {
            self.news.tell();
        }
        let end = Instant::now() + time;
        // The end of the process that is replaced is a signal, too.
        while !self.signals.end_requested() && Instant::now() < end {
            let left = end.saturating_duration_since(Instant::now());
            self.signals.wait(left).map_err(RunError::Signals)?;
        }
        Ok(!self.signals.end_requested())
    }

    /// One connection from its first message to its end.
    fn serve(
        &mut self,
        socket: UnixStream,
        process: Option<&mut DeviceProcess>,
    ) -> Result<Ending, RunError> {
        let RunOptions { name, device, .. } = self.options;
        let mut session = match self.begin(socket) {
            Ok(Some(session)) => session,
            Ok(None) => return Ok(self.destroyed()),
            Err(error) if error.is_interrupted() => return Ok(Ending::Signal),
            Err(error) => return Err(error),
        };
        let (readiness, news) = (&mut self.readiness, &mut self.news);
        let mut event_loop = EventLoop::new(
            &mut session,
            self.signals,
            process,
            readiness,
            news,
            *device,
        );
        let ephemeral = self.options.ephemeral;
        let mut ending = event_loop.run();
        // One that is too slow every time is served as it is, for as long as its driver has it so.
        let late = matches!(ending, Ok(Ending::StartedLate));
        if late && self.late && event_loop.is_serving() {
            ending = event_loop.run();
        }
        self.late = late;
        let ending = ending.map_err(RunError::from);
        let ending = ending.and_then(|ending| match ending {
            Ending::Signal if ephemeral => {
                // Served on until it is gone, so that its driver can end in good order.
                // Somebody else may have been faster, and another device have its name.
                if !event_loop.is_dying() {
                    ask_to_go(name)?;
                }
                let due = Instant::now() + DESTROY_TIME;
                self.gone_due = Some(due);
                Ok(event_loop.run_until_gone(due)?)
            }
            ending => Ok(ending),
        });
        let has_served = event_loop.has_served();
        self.served |= has_served;
        self.hindered &= ending.is_err() && !has_served;
        self.inflight = session.into_inflight();
        match ending? {
            Ending::Destroyed => Ok(self.destroyed()),
            ending => Ok(ending),
        }
    }

    /// Negotiates and takes the device. `None`: the device that this run had is gone.
    fn begin(&mut self, socket: UnixStream) -> Result<Option<Session<ControlFile>>, RunError> {
        let RunOptions {
            name,
            device,
            overrides,
            ..
        } = self.options;
        let control = ControlFile::open()?;
        let existing = control.find(name)?;
        let goes = |device: &Device| device.state == State::Dying;
        if self.has_device && existing.as_ref().is_none_or(goes) {
            return self.wait_until_gone().map(|()| None);
        }
        // Queues that exist have their size; trying others on a device process that may serve them
        // still would disturb it.
        let known_size = existing.as_ref().map(|_| device.queue_size);
        let overrides = &Overrides {
            queue_size: overrides.queue_size.or(known_size),
            ..*overrides
        };
        let queues = overrides.queues.unwrap_or(device.queues.least());
        let end = self.signals.end_flag();
        let mut backend = Backend::negotiate(socket, queues, ANSWER_LIMIT, end)?;
        let offer = Offer::ask(&mut backend, device, overrides)?;
        let taken = take_device(self.options, &control, &offer, !self.has_device);
        if !self.has_taken(taken)? {
            // Whoever is attached keeps it from going.
            drop(control);
            return self.wait_until_gone().map(|()| None);
        }
        self.served |= existing.is_some_and(|device| device.driver_bound);
        if !self.hindered {
            let text = format!("{name}: virtio device {device} is attached");
            self.news.add(Level::Info, text);
        }
        let inflight = std::mem::replace(&mut self.inflight, Inflight::of(name));
        Ok(Some(Session::new(control, backend, &offer, inflight)))
    }

    /// False: the device that this run had has been destroyed meanwhile.
    fn has_taken(&mut self, taken: Result<(), RunError>) -> Result<bool, RunError> {
        use DriverError::{Dying, Gone, NameTaken, NoDevice};
        match taken {
            Err(RunError::Driver(NoDevice(_) | Dying(_) | Gone)) if self.has_device => Ok(false),
            Err(error) => {
                // What another adapter has is not for this one to destroy.
                self.has_device &= !matches!(error, RunError::Driver(NameTaken(_)));
                Err(error)
            }
            Ok(()) => {
                self.has_device = true;
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests;
