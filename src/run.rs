// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! From the command line to a running device, and back in order.

mod check;
pub(crate) mod hosts;
mod listen;
mod options;
mod socket;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::args::Args;
use crate::audio::HostError;
use crate::audio::mixer::{MixerError, Mixers};
use crate::card::Card;
use crate::card_file::{self, CardFileError};
use crate::command;
use crate::description;
use crate::device::{Device, DeviceError};
use crate::process::{Priority, ProcessError};
use crate::report;
use crate::session::Offer;
use crate::signals::Signals;
use crate::system;

/// Reports that may wait for the log; more are lost.
const REPORTS: usize = 64;

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
    #[cfg(not(feature = "alsa"))]
    #[error("host {0} is not built into this program; build it with --features {0}")]
    NotBuilt(&'static str),
    /// A real card's element cannot be used.
    #[error(transparent)]
    Mixer(#[from] MixerError),
    /// The device cannot be started.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The system gives no thread.
    #[error("cannot start the thread that writes files: {0}")]
    Thread(#[source] io::Error),
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
    // First of all: it has to come before anything is opened.
    let inherited = match args.fd {
        Some(fd) => Some(system::connected_socket(fd).map_err(|error| RunError::Fd(fd, error))?),
        None => None,
    };
    let mut description = match &args.card {
        Some(path) => card_file::load(path)?,
        None => options::describe(args)?,
    };
    description.process = options::process(args).or(description.process);
    // Before there are threads, which would stay behind.
    let priority = match args.check {
        true => Priority::Ordinary,
        false => description.process.enter()?,
    };
    let mut host = hosts::open(&description)?;
    if args.check {
        print!("{}", check::card(&description, &mut host));
        return Ok(());
    }
    // Before there are threads: they would share the mask of the file's rights.
    let commands = match &args.command_socket {
        Some(path) => Some(socket::private(path)?),
        None => None,
    };
    let mut mixers = Mixers::open(&description)?;
    let signals = Signals::register().map_err(|error| RunError::Wait("signals", error))?;
    let (reports, log) =
        report::channel(REPORTS).map_err(|error| RunError::Wait("reports", error.into()))?;
    let labels = description::labels(&description.streams);
    let logger = std::thread::spawn(move || report::write_log(log, &labels));
    let card = Card::new(
        Box::new(host),
        &description,
        &mixers.take_originals(),
        reports,
    );
    let offer = Offer {
        config: card.config_space(),
        features: card.features(),
    };
    let device = Arc::new(Device::start(card, priority)?);
    let mixers = mixers.start(&device.waker())?;
    let _command_file = match commands {
        Some((listener, file)) => {
            command::server::start(listener, Arc::downgrade(&device), description)
                .map_err(|error| RunError::Wait("commands", error))?;
            Some(file)
        }
        None => None,
    };
    let result = match (inherited, &args.socket_path) {
        (Some(socket), _) => listen::serve(socket, &device, &offer, &signals),
        (None, Some(path)) => listen::listen(path, &device, &offer, &signals),
        (None, None) => Ok(()),
    };
    drop(mixers);
    drop(device);
    // The audio thread is gone, so the log ends.
    let _ = logger.join();
    result
}
