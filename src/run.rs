// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From the command line to a running device, and back in order.

mod activation;
mod check;
pub(crate) mod hosts;
pub(crate) mod listen;
mod options;
mod socket;

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use activation::ActivationError;
use nix::errno::Errno;

use crate::args::Args;
use crate::audio::HostError;
use crate::audio::mixer::{MixerError, Mixers};
use crate::audio_thread::AudioThread;
use crate::card::Card;
use crate::card_file::{self, CardFileError};
use crate::command;
use crate::description::{self, Description};
use crate::device::{Device, DeviceError};
use crate::process::{Priority, ProcessError};
use crate::report;
use crate::respawn::{self, Role};
use crate::sandbox::{Needs, Sandbox};
use crate::session::Offer;
use crate::signals::Signals;
use crate::system;
use listen::Stay;
use socket::SocketFile;

/// Reports that may wait for the log; more are lost.
const REPORTS: usize = 64;
/// How long the end waits for the last of them to be written: whoever reads the log may stand still.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Why the program ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A host cannot be set up.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The card file is wrong.
    #[error(transparent)]
    CardFile(#[from] CardFileError),
    /// The process cannot be what it is to be.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Two options name one file.
    #[error("two streams would write {0}; give each a file of its own")]
    WrittenTwice(String),
    /// A host option is missing.
    #[error("--host {0} needs {1}")]
    Missing(&'static str, &'static str),
    /// An option has no effect on this host.
    #[error("{0} does nothing with --host {1}; see --help")]
    Misplaced(&'static str, &'static str),
    /// The description leaves nothing of what the host of a stream can do.
    #[error("{stream}: {host} has none of the {what} {wanted}; it has {offered}")]
    NothingLeft {
        /// The stream's label.
        stream: String,
        /// Its host.
        host: String,
        /// Formats, rates or numbers of channels.
        what: &'static str,
        /// Those of the description.
        wanted: String,
        /// Those of the host.
        offered: String,
    },
    /// The host is not built in.
    #[cfg(not(all(feature = "alsa", feature = "gstreamer", feature = "pipewire")))]
    #[error("host {0} is not built into this program; build it with --features {0}")]
    NotBuilt(&'static str),
    /// A real card's element cannot be used.
    #[error(transparent)]
    Mixer(#[from] MixerError),
    /// The device cannot be started.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The system gives no thread.
    #[error("cannot start the thread that {0}: {1}")]
    Thread(&'static str, #[source] io::Error),
    /// The inherited socket cannot be used.
    #[error("--fd {0} is no connected stream socket: {1}")]
    Fd(i32, #[source] io::Error),
    /// A service manager's sockets cannot be used.
    #[error(transparent)]
    Activation(#[from] ActivationError),
    /// Commands would come from two sockets.
    #[error(
        "a command socket was handed over, and {0} was given; remove --command-socket and \
         VHOST_USER_COMMAND_SOCKET, or the second socket of the unit"
    )]
    TwoCommandSockets(PathBuf),
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
    /// There is no process that could be replaced.
    #[error("--respawn: the system gives no process to serve: {0}")]
    Respawn(#[source] Errno),
    /// Signals or sockets cannot be waited for.
    #[error("cannot wait for {0}: {1}")]
    Wait(&'static str, #[source] io::Error),
}

/// Serves until a signal comes, or the inherited socket closes. Returns the exit status.
///
/// # Errors
/// Something that the user has to put right.
pub fn run(args: &Args) -> Result<u8, RunError> {
    if args.print_capabilities {
        println!("{{\n  \"type\": \"sound\",\n  \"features\": []\n}}");
        return Ok(0);
    }
    // First of all: it has to come before anything is opened.
    let (way, handed_commands) = Way::of(args)?;
    let mut description = match &args.card {
        Some(path) => card_file::load(path)?,
        None => options::describe(args)?,
    };
    description.process = options::process(args).or(description.process);
    let mut sandbox = sandbox(args, &description);
    if args.check {
        return check(&mut sandbox, &description, args.json);
    }
    // Before there are threads, which would stay behind, or share the mask of the file's rights.
    let (commands, mut command_file) = command_socket(args, handed_commands)?;
    sandbox.confine();
    let (mut known, mut replaces) = (None, false);
    if args.respawn {
        hosts::prepare(&description);
        known = Some(Mixers::open(&description)?.closed());
        replaces = match respawn::split().map_err(RunError::Respawn)? {
            Role::Worker { replaces } => replaces,
            Role::Guard(status) => {
                // The last worker may have been killed.
                if let Way::Path(path) = &way {
                    socket::clear(path);
                }
                return Ok(status);
            }
        };
        // The guard's, and that of the next worker.
        if let Some(file) = command_file.take() {
            file.leave();
        }
    }
    let priority = description.process.enter()?;
    let rights = sandbox.rights(priority);
    let audio = AudioThread::start(priority, rights).map_err(DeviceError::Setup)?;
    rights.drop_others();
    let host = hosts::open(&description)?;
    let mut mixers = Mixers::open_again(&description, known)?;
    let signals = Signals::register().map_err(|error| RunError::Wait("signals", error))?;
    let (reports, log) =
        report::channel(REPORTS).map_err(|error| RunError::Wait("reports", error.into()))?;
    let labels = description::labels(&description.streams);
    let (writing, written) = sync_channel::<()>(0);
    std::thread::Builder::new()
        .spawn(move || {
            report::write_log(log, &labels);
            drop(writing);
        })
        .map_err(|error| RunError::Thread("writes the log", error))?;
    let card = Card::new(
        Box::new(host),
        &description,
        &mixers.take_originals(),
        reports,
    );
    let offer = Offer {
        config: card.config_space(),
        features: card.features(),
        words: card.words(),
    };
    let device = Arc::new(Device::start(audio, card)?);
    let mixers = mixers.start(&device.waker())?;
    let frontends = way.open()?;
    sandbox.seal();
    sandbox.report();
    if let Some(listener) = commands {
        command::server::start(listener, Arc::downgrade(&device), description)
            .map_err(|error| RunError::Wait("commands", error))?;
    }
    let result = frontends.serve(replaces, &device, &offer, &signals);
    drop(mixers);
    drop(device);
    // The audio thread is gone, so the log ends.
    let _ = written.recv_timeout(LAST_WORDS);
    result.map(|()| 0)
}

/// How frontends come.
enum Way {
    /// One is connected already.
    Connected(UnixStream),
    /// They connect to a socket that was handed over.
    Handed(UnixListener),
    /// They connect to a socket that is to be made there.
    Path(PathBuf),
    /// None is to come.
    None,
}

impl Way {
    /// The way that was chosen, and the command socket that was handed over.
    fn of(args: &Args) -> Result<(Self, Option<UnixListener>), RunError> {
        if args.socket_activation {
            let handed = activation::take()?;
            return Ok((Self::Handed(handed.frontends), handed.commands));
        }
        let way = match (args.fd, &args.socket_path) {
            (Some(fd), _) => {
                let socket = system::connected_socket(fd);
                Self::Connected(socket.map_err(|error| RunError::Fd(fd, error))?)
            }
            (None, Some(path)) => Self::Path(path.clone()),
            (None, None) => Self::None,
        };
        Ok((way, None))
    }

    /// Makes the socket that is to be made.
    fn open(self) -> Result<Frontends, RunError> {
        Ok(match self {
            Self::Connected(socket) => Frontends::Connected(socket),
            Self::Handed(listener) => Frontends::Listening(listener, None),
            Self::Path(path) => {
                let (listener, file) = socket::listen(&path)?;
                log::info!("listening on {}", path.display());
                Frontends::Listening(listener, Some(file))
            }
            Self::None => Frontends::None,
        })
    }
}

/// Where frontends come from.
enum Frontends {
    /// One is connected already.
    Connected(UnixStream),
    /// They connect to a socket, whose file goes at the end if it was made here.
    Listening(UnixListener, Option<SocketFile>),
    /// None is to come.
    None,
}

impl Frontends {
    /// `replaces`: another process has served before, and has died.
    fn serve(
        self,
        replaces: bool,
        device: &Arc<Device>,
        offer: &Offer,
        signals: &Signals,
    ) -> Result<(), RunError> {
        match self {
            Self::Connected(socket) => listen::serve(socket, device, offer, signals),
            Self::Listening(listener, file) => {
                // A socket that a service manager holds is served again when somebody comes.
                let stay = match file {
                    Some(_) => Stay::Always,
                    None => Stay::InUse { replaces },
                };
                listen::listen(&listener, stay, device, offer, signals)
            }
            Self::None => Ok(()),
        }
    }
}

/// The socket that commands come from, and its file if there is one. To be called before there are
/// threads: they would share the mask of the file's rights.
fn command_socket(
    args: &Args,
    handed: Option<UnixListener>,
) -> Result<(Option<UnixListener>, Option<SocketFile>), RunError> {
    match (handed, &args.command_socket) {
        (Some(_), Some(path)) => Err(RunError::TwoCommandSockets(path.clone())),
        (Some(listener), None) => Ok((Some(listener), None)),
        (None, Some(path)) => {
            let (listener, file) = socket::private(path)?;
            Ok((Some(listener), Some(file)))
        }
        (None, None) => Ok((None, None)),
    }
}

/// The sandbox for a card, with room for its sockets.
fn sandbox(args: &Args, description: &Description) -> Sandbox {
    let mut needs = Needs::of(description);
    for path in [&args.socket_path, &args.command_socket]
        .into_iter()
        .flatten()
    {
        needs.add_socket(path);
    }
    Sandbox::new(needs, &args.no_sandbox)
}

/// Prints the card as it is in the sandbox.
fn check(sandbox: &mut Sandbox, description: &Description, json: bool) -> Result<u8, RunError> {
    sandbox.confine();
    sandbox.rights(Priority::Ordinary).drop_others();
    let mut host = hosts::open(description)?;
    sandbox.seal();
    match json {
        true => println!("{}", check::card_json(description, &mut host, sandbox)),
        false => println!("{}{sandbox}", check::card(description, &mut host)),
    }
    Ok(0)
}
