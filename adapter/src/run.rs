// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `virtio-loopback run`: connect, negotiate, create or attach, serve.
//!
//! A device process at the other end of a socket may go and come back; each time is the same
//! sequence from the beginning, with an attach by name, exactly as for a new adapter.

use std::ffi::OsString;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use virtio_bindings::virtio_ids::VIRTIO_ID_SOUND;

use crate::backend::{ANSWER_LIMIT, Backend, BackendError};
use crate::device_process::{DeviceProcess, ProcessError, THIS_PROGRAM};
use crate::device_type::DeviceType;
use crate::driver::{
    ALSA_ID_MAX, ControlFile, Device, DeviceName, Driver, DriverError, NewDevice, State,
};
use crate::event_loop::{Ending, EventLoop, LoopError};
use crate::session::{Offer, Overrides, Session, SessionError};
use crate::signals::Signals;

/// How long the first connection to a socket is tried.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// First and longest wait between two tries to connect.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// A device process that served for this long is not one that fails at every start.
const STEADY: Duration = Duration::from_secs(10);
/// How long a device that is being destroyed is waited for.
const DESTROY_TIME: Duration = Duration::from_secs(5);
/// How long a COMMAND that closed its connection may take to end by itself.
const END_TIME: Duration = Duration::from_secs(1);

/// Where the device process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceProcessAt {
    /// It listens on a socket.
    Socket(PathBuf),
    /// It is to be started.
    Command(Vec<OsString>),
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

/// `run` failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// sigaction() or poll()
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// connect(): nobody is there.
    #[error(
        "nobody listens on {path}: start the device process first, \
         for example: vhost-user-sound --socket-path {path}"
    )]
    NobodyListens {
        /// The socket.
        path: String,
        /// Of connect().
        source: io::Error,
    },
    /// connect()
    #[error("cannot connect to {path}")]
    Connect {
        /// The socket.
        path: String,
        /// Of connect().
        source: io::Error,
    },
    /// A device of that name is of another kind.
    #[error(
        "the device {name} exists already, but {difference}: choose another name, \
         or remove it with: virtio-loopback destroy {name}"
    )]
    Different {
        /// Of the device.
        name: String,
        /// What is different.
        difference: String,
    },
    /// The COMMAND ended.
    #[error("the device process ended ({0})")]
    CommandEnded(ExitStatus),
    /// The COMMAND closed its socket and runs on.
    #[error("the device process closed its connection, but goes on running; it has been ended")]
    CommandSilent,
    /// A step with the kernel.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A step with the device process.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// What the device process offers.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Serving.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// Starting or ending the COMMAND.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Runs one adapter until a signal ends it.
///
/// # Errors
/// Any [`RunError`].
pub fn run(options: &RunOptions) -> Result<(), RunError> {
    let signals = Signals::register().map_err(RunError::Signals)?;
    check_name(options)?;
    match &options.process {
        DeviceProcessAt::Socket(path) => run_with_socket(options, &signals, path),
        DeviceProcessAt::Command(command) => run_with_command(options, &signals, command),
    }
}

/// Tells what is wrong before a device process is bothered.
fn check_name(options: &RunOptions) -> Result<(), RunError> {
    let name = &options.name;
    if let (VIRTIO_ID_SOUND, Some(id)) = (options.device.id, name.shortened_alsa_id()) {
        log::warn!("an ALSA card id has at most {ALSA_ID_MAX} characters: the card is {id}");
    }
    match ControlFile::open()?.find(name)? {
        Some(device) if device.attached => Err(DriverError::NameTaken(name.to_string()).into()),
        Some(device) if device.device_id != options.device.id => Err(different(
            name,
            format!(
                "it is a virtio device {}",
                DeviceType::of_id(device.device_id)
            ),
        )),
        _ => Ok(()),
    }
}

fn run_with_command(
    options: &RunOptions,
    signals: &Signals,
    command: &[OsString],
) -> Result<(), RunError> {
    let (mut process, socket) = DeviceProcess::start(Path::new(THIS_PROGRAM), command)?;
    log::debug!("started the device process {}", process.id());
    let served = serve(options, signals, socket, Some(&mut process), true);
    let ended_by_itself = process.wait(
        signals,
        match &served {
            // It has hung up, so it is about to end; its exit status is the better report.
            Ok(Ending::BackendClosed) | Err(_) => END_TIME,
            Ok(_) => Duration::ZERO,
        },
    )?;
    if ended_by_itself.is_none() {
        process.end(signals)?;
    }
    match (served, ended_by_itself) {
        (Ok(Ending::CommandEnded(status)), _) => Err(RunError::CommandEnded(status)),
        (Ok(Ending::BackendClosed), Some(status)) => Err(RunError::CommandEnded(status)),
        (Ok(Ending::BackendClosed), None) => Err(RunError::CommandSilent),
        (Ok(_), _) => Ok(()),
        (Err(error), Some(status)) if is_closed(&error) => {
            log::debug!("{error}");
            Err(RunError::CommandEnded(status))
        }
        (Err(error), _) => Err(error),
    }
}

fn run_with_socket(options: &RunOptions, signals: &Signals, path: &Path) -> Result<(), RunError> {
    let mut first = true;
    let mut pause = BACK_OFF.0;
    loop {
        let give_up = first.then(|| Instant::now() + CONNECT_TIME);
        let Some(socket) = connect(path, signals, give_up)? else {
            return Ok(());
        };
        let since = Instant::now();
        match serve(options, signals, socket, None, first) {
            Ok(Ending::BackendClosed) => {}
            Ok(_) => return Ok(()),
            Err(error) if !first && is_closed(&error) => log::debug!("{error}"),
            Err(RunError::Driver(DriverError::NoDevice(name))) if !first => {
                log::info!("the device {name} has been destroyed");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        first = false;
        log::warn!(
            "the device process has gone; {} waits for it to listen on {} again",
            options.name,
            path.display()
        );
        pause = if since.elapsed() > STEADY {
            BACK_OFF.0
        } else {
            next_pause(pause)
        };
        signals.wait(pause).map_err(RunError::Signals)?;
        if signals.end_requested() {
            log_stays(options);
            return Ok(());
        }
    }
}

fn next_pause(pause: Duration) -> Duration {
    (pause * 2).min(BACK_OFF.1)
}

/// Connects to `path`; waits for somebody to listen there until `give_up`, or for ever.
/// `None`: a signal ended the wait.
fn connect(
    path: &Path,
    signals: &Signals,
    give_up: Option<Instant>,
) -> Result<Option<UnixStream>, RunError> {
    let name = || path.display().to_string();
    let mut pause = BACK_OFF.0;
    let mut said = false;
    loop {
        let source = match UnixStream::connect(path) {
            Ok(socket) => return Ok(Some(socket)),
            Err(error) => error,
        };
        if !matches!(
            source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        ) {
            return Err(RunError::Connect {
                path: name(),
                source,
            });
        }
        let left = give_up.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(RunError::NobodyListens {
                path: name(),
                source,
            });
        }
        if let (false, Some(left)) = (said, left) {
            log::info!(
                "waiting {:.0} s for a device process on {}",
                left.as_secs_f32(),
                name()
            );
            said = true;
        }
        signals
            .wait(left.unwrap_or(pause).min(pause))
            .map_err(RunError::Signals)?;
        if signals.end_requested() {
            return Ok(None);
        }
        pause = next_pause(pause);
    }
}

/// One connection from its first message to its end. `may_create`: the device may be new.
fn serve(
    options: &RunOptions,
    signals: &Signals,
    socket: UnixStream,
    process: Option<&mut DeviceProcess>,
    may_create: bool,
) -> Result<Ending, RunError> {
    let RunOptions { name, device, .. } = options;
    let queues = options.overrides.queues.unwrap_or(device.queues.least());
    let mut backend = Backend::negotiate(socket, queues, ANSWER_LIMIT)?;
    let offer = Offer::ask(&mut backend, device, &options.overrides)?;
    let control = ControlFile::open()?;
    take_device(options, &control, &offer, may_create)?;
    log::info!("{name}: virtio device {device} is attached");

    let mut session = Session::new(control, backend, &offer);
    let advice = format!(
        "no driver in this kernel has taken virtio device {device}: {}",
        device.driver_advice()
    );
    let mut event_loop = EventLoop::new(&mut session, signals, process, advice);
    let ending = event_loop.run()?;
    match ending {
        Ending::Signal if options.ephemeral => end_device(&mut event_loop, name),
        Ending::CommandEnded(_) | Ending::BackendClosed if options.ephemeral => {
            // Nobody is left to serve it; what is said about that is the caller's business.
            ControlFile::open()?.destroy(name)?;
            Ok(ending)
        }
        Ending::Signal => {
            log_stays(options);
            Ok(ending)
        }
        Ending::Destroyed => {
            log::info!("the device {name} has been destroyed");
            Ok(ending)
        }
        ending => Ok(ending),
    }
}

/// Destroys the device, serving it until it is gone.
fn end_device(
    event_loop: &mut EventLoop<'_, ControlFile>,
    name: &DeviceName,
) -> Result<Ending, RunError> {
    ControlFile::open()?.destroy(name)?;
    let ending = event_loop.run_until_gone(DESTROY_TIME)?;
    if ending == Ending::StillOpen {
        log::warn!("an application still has {name} open; it goes when that closes it");
    }
    Ok(ending)
}

fn log_stays(options: &RunOptions) {
    let name = &options.name;
    log::info!("the device {name} stays; remove it with: virtio-loopback destroy {name}");
}

/// Creates the device, or attaches to the one of that name.
fn take_device(
    options: &RunOptions,
    control: &ControlFile,
    offer: &Offer,
    may_create: bool,
) -> Result<(), RunError> {
    let RunOptions { name, device, .. } = options;
    let new = NewDevice {
        name,
        device_id: device.id,
        features: offer.features,
        zero_copy: device.zero_copy,
        config: &offer.config,
        queue_sizes: &offer.queue_sizes,
    };
    let existing = control.find(name)?;
    if existing.is_none() && may_create {
        match control.create(&new) {
            // Created by somebody else just now.
            Err(DriverError::NameExists(_)) => {}
            created => return created.map_err(RunError::from),
        }
    }
    let existing = existing.map_or_else(|| control.find(name), |device| Ok(Some(device)))?;
    let existing = existing.ok_or_else(|| DriverError::NoDevice(name.to_string()))?;
    if let Some(difference) = difference(&existing, &new) {
        return Err(different(name, difference));
    }
    if existing.state == State::Dying {
        return Err(DriverError::Dying(name.to_string()).into());
    }
    control.attach(name)?;
    if !offer.config.is_empty() {
        // Another device process may have another config space.
        control.set_config(0, &offer.config, true)?;
    }
    Ok(())
}

fn different(name: &DeviceName, difference: String) -> RunError {
    RunError::Different {
        name: name.to_string(),
        difference,
    }
}

/// What keeps an existing device from being served as `new`.
fn difference(existing: &Device, new: &NewDevice<'_>) -> Option<String> {
    let (queues, config) = (new.queue_sizes.len(), new.config.len());
    if existing.device_id != new.device_id {
        Some(format!(
            "it is a virtio device {}",
            DeviceType::of_id(existing.device_id)
        ))
    } else if existing.queue_count as usize != queues {
        Some(format!(
            "it has {} queues, not {queues}",
            existing.queue_count
        ))
    } else if existing.config_size as usize != config {
        Some(format!(
            "its config space has {} bytes, not {config}",
            existing.config_size
        ))
    } else {
        None
    }
}

fn is_closed(error: &RunError) -> bool {
    match error {
        RunError::Backend(error) => error.is_closed(),
        RunError::Session(error) => error.is_backend_closed(),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
