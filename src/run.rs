// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From the command line to a running device, and back in order.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};

use vhost::vhost_user::{BackendReqHandler, Error as ProtocolError};

use crate::args::{Args, HostKind, MAX_CHANNELS};
use crate::audio::clock::Clocked;
use crate::audio::file::{Files, PLAYBACK_FORMATS};
use crate::audio::loopback::Loopback;
use crate::audio::null::Null;
use crate::audio::{Host, HostError};
use crate::card::Card;
use crate::device::{Device, DeviceError};
use crate::inherited;
use crate::pcm_format;
use crate::report;
use crate::session::Session;
use crate::signals::Signals;
use crate::wire::{self, Chmap, Direction, PcmInfo};

/// Reports that may wait for the log; more are lost.
const REPORTS: usize = 64;

/// Why the program ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The host cannot be set up.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A host option is missing.
    #[error("--host {0} needs {1}")]
    Missing(&'static str, &'static str),
    /// An option has no effect on this host.
    #[error("{0} does nothing with --host {1}; see --help")]
    Misplaced(&'static str, &'static str),
    /// The host is not built in.
    #[cfg(not(feature = "alsa"))]
    #[error("--host {0} is not built into this program; build it with --features {0}")]
    NotBuilt(&'static str),
    /// The device cannot be started.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The inherited socket cannot be used.
    #[error("--fd {0} is no connected stream socket: {1}")]
    Fd(i32, #[source] io::Error),
    /// Nobody can listen there.
    #[error("cannot listen on {path}: {source}{hint}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// Signals or sockets cannot be waited for.
    #[error("cannot wait for {0}: {1}")]
    Wait(&'static str, #[source] io::Error),
}

/// Serves until a signal comes, or the inherited socket closes.
///
/// # Errors
/// Something that the user has to put right.
pub fn run(args: &Args) -> Result<(), RunError> {
    if args.print_capabilities {
        println!("{{\n  \"type\": \"sound\",\n  \"features\": []\n}}");
        return Ok(());
    }
    check_options(args)?;
    // First of all: it has to come before anything is opened.
    let inherited = match args.fd {
        Some(fd) => Some(inherited::connected_socket(fd).map_err(|error| RunError::Fd(fd, error))?),
        None => None,
    };
    let signals = Signals::register().map_err(|error| RunError::Wait("signals", error))?;
    let host = open_host(args)?;
    let chmaps = channel_maps(host.streams());
    let config = wire::config_space(host.streams().len() as u32, chmaps.len() as u32);
    let (reports, log) = sync_channel(REPORTS);
    let logger = std::thread::spawn(move || report::write_log(&log));
    let device = Arc::new(Device::start(Card::new(host, chmaps, reports))?);
    let result = match (inherited, &args.socket_path) {
        (Some(socket), _) => serve(socket, &device, &config, &signals),
        (None, Some(path)) => listen(path, &device, &config, &signals),
        (None, None) => Ok(()),
    };
    drop(device);
    // The audio thread is gone, so the log ends.
    let _ = logger.join();
    result
}

/// Refuses options that the chosen host would ignore.
fn check_options(args: &Args) -> Result<(), RunError> {
    let (name, alsa, file) = match args.host {
        HostKind::Null => ("null", false, false),
        HostKind::File => ("file", false, true),
        HostKind::Loop => ("loop", false, false),
        HostKind::Alsa => ("alsa", true, false),
    };
    let options = [
        ("--playback-device", args.playback_device.is_some(), alsa),
        ("--capture-device", args.capture_device.is_some(), alsa),
        ("--playback-file", args.playback_file.is_some(), file),
        ("--capture-file", args.capture_file.is_some(), file),
        ("--formats", !args.formats.is_empty(), !alsa),
        ("--rates", !args.rates.is_empty(), !alsa),
        ("--channels", args.channels.is_some(), !alsa),
    ];
    match options
        .into_iter()
        .find(|(_, given, useful)| *given && !useful)
    {
        Some((option, ..)) => Err(RunError::Misplaced(option, name)),
        None => Ok(()),
    }
}

/// What a host without a card of its own offers.
fn offer(args: &Args, direction: Direction, formats: &[pcm_format::Format]) -> PcmInfo {
    let wanted =
        |format: &&pcm_format::Format| args.formats.is_empty() || args.formats.contains(format);
    let rates = if args.rates.is_empty() {
        &pcm_format::RATES[..]
    } else {
        &args.rates
    };
    PcmInfo {
        formats: formats
            .iter()
            .filter(wanted)
            .fold(0, |bits, format| bits | format.bit()),
        rates: rates
            .iter()
            .fold(0, |bits, &rate| bits | pcm_format::rate_bit(rate)),
        direction,
        channels_min: args.channels.map_or(1, |(min, _)| min),
        channels_max: args.channels.map_or(MAX_CHANNELS, |(_, max)| max),
    }
}

fn open_host(args: &Args) -> Result<Box<dyn Host>, RunError> {
    let both = [Direction::Playback, Direction::Capture]
        .map(|direction| offer(args, direction, &pcm_format::FORMATS));
    match args.host {
        HostKind::Null => Ok(Box::new(Clocked::new(Null::new(both.to_vec())))),
        HostKind::Loop => Ok(Box::new(Clocked::new(Loopback::new(both)))),
        HostKind::File => {
            if args.playback_file.is_none() && args.capture_file.is_none() {
                return Err(RunError::Missing(
                    "file",
                    "--playback-file, --capture-file or both",
                ));
            }
            let offered = offer(args, Direction::Playback, &PLAYBACK_FORMATS);
            let (playback, capture) = (args.playback_file.as_deref(), args.capture_file.as_deref());
            Ok(Box::new(Clocked::new(Files::new(
                playback, capture, offered,
            )?)))
        }
        HostKind::Alsa => open_alsa(args),
    }
}

#[cfg(feature = "alsa")]
fn open_alsa(args: &Args) -> Result<Box<dyn Host>, RunError> {
    if args.playback_device.is_none() && args.capture_device.is_none() {
        return Err(RunError::Missing(
            "alsa",
            "--playback-device, --capture-device or both",
        ));
    }
    let (playback, capture) = (
        args.playback_device.as_deref(),
        args.capture_device.as_deref(),
    );
    Ok(Box::new(crate::audio::alsa::Alsa::new(playback, capture)))
}

#[cfg(not(feature = "alsa"))]
fn open_alsa(_args: &Args) -> Result<Box<dyn Host>, RunError> {
    Err(RunError::NotBuilt("alsa"))
}

/// The usual channel maps for every number of channels that a direction offers.
fn channel_maps(streams: &[PcmInfo]) -> Vec<Chmap> {
    let mut maps: Vec<Chmap> = Vec::new();
    for info in streams {
        let channels = usize::from(info.channels_min)..=usize::from(info.channels_max);
        let fitting = pcm_format::CHANNEL_MAPS
            .iter()
            .filter(|map| channels.contains(&map.len()));
        for positions in fitting {
            let map = Chmap {
                direction: info.direction,
                positions,
            };
            if !maps.contains(&map) {
                maps.push(map);
            }
        }
    }
    maps
}

/// The socket's file, removed at the end.
struct SocketFile<'a>(&'a Path);

impl Drop for SocketFile<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(self.0) {
            log::warn!("{}: {error}", self.0.display());
        }
    }
}

/// Binds the socket. One that a dead process left behind is replaced; one that is served is not.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let socket = fs::symlink_metadata(path)?.file_type().is_socket();
            let nobody = UnixStream::connect(path)
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            if !socket || !nobody {
                return Err(error);
            }
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        result => result,
    }
}

fn listen(
    path: &Path,
    device: &Arc<Device>,
    config: &[u8],
    signals: &Signals,
) -> Result<(), RunError> {
    let fail = |source: io::Error| {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "; another device listens there, or it is no socket: choose another path"
            }
            io::ErrorKind::NotFound => "; create the folder first",
            io::ErrorKind::PermissionDenied => "; this user may not create files there",
            _ => "",
        };
        RunError::Listen {
            path: path.to_owned(),
            source,
            hint,
        }
    };
    let listener = bind(path).map_err(fail)?;
    let _socket = SocketFile(path);
    log::info!("listening on {}", path.display());
    let wait = |error| RunError::Wait("frontends", error);
    while signals.wait_for(listener.as_fd()).map_err(wait)? {
        match listener.accept() {
            Ok((socket, _)) => {
                log::info!("a frontend has connected");
                serve(socket, device, config, signals)?;
            }
            Err(error) => log::warn!("accept: {error}"),
        }
    }
    Ok(())
}

/// Serves one connection until it or the program is to end.
fn serve(
    socket: UnixStream,
    device: &Arc<Device>,
    config: &[u8],
    signals: &Signals,
) -> Result<(), RunError> {
    let fail = |error| RunError::Wait("the frontend", error);
    let watched = socket.try_clone().map_err(fail)?;
    let session = Session::new(Arc::clone(device), config.to_vec());
    let mut handler = BackendReqHandler::from_stream(socket, Arc::new(Mutex::new(session)));
    signals
        .hanging_up(&watched, || answer_requests(&mut handler))
        .map_err(fail)
}

/// Answers requests until the frontend goes, or says something after which nothing makes sense.
fn answer_requests(handler: &mut BackendReqHandler<Mutex<Session>>) {
    loop {
        match handler.handle_request() {
            Ok(()) => {}
            Err(ProtocolError::Disconnected | ProtocolError::PartialMessage) => {
                return log::info!("the frontend has gone");
            }
            // The frontend was told, if it asked; its next request may be a better one.
            Err(
                error @ (ProtocolError::InvalidParam
                | ProtocolError::InvalidOperation(_)
                | ProtocolError::BackendInternalError
                | ProtocolError::InactiveFeature(_)
                | ProtocolError::InactiveOperation(_)),
            ) => log::warn!("request of the frontend: {error}"),
            Err(error) => return log::warn!("the frontend is dropped: {error}"),
        }
    }
}
