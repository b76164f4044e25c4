// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `vhost-user-sound tell`: says one command to a running device and prints what it hears.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Command, JackReply, Reply, StreamReply};
use crate::args::{Tell, What};

/// A device answers at once, unless it opens a sound card meanwhile.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// Nobody is there.
    #[error("{path}: {source}{hint}")]
    Connect {
        /// The command socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// The connection broke.
    #[error("{0}: {1}")]
    Talk(PathBuf, #[source] io::Error),
    /// What came back is no reply.
    #[error("{0} is no command socket of vhost-user-sound: {1}")]
    Reply(PathBuf, #[source] serde_json::Error),
    /// The device refused.
    #[error("{0}")]
    Refused(String),
}

/// Says the command and prints the reply.
///
/// # Errors
/// Nobody is there, or the device refuses.
pub fn tell(tell: &Tell) -> Result<(), TellError> {
    let command = match &tell.what {
        What::Jack { jack, state } => Command::Jack {
            jack: jack.clone(),
            plugged: state.is_plugged(),
        },
        What::Jacks => Command::Jacks {},
        What::Status => Command::Status {},
    };
    let path = tell.socket.as_path();
    let line = talk(path, &command)?;
    let reply = serde_json::from_str(&line);
    let text = match reply.map_err(|error| TellError::Reply(path.to_owned(), error))? {
        Reply::Refused { error } => return Err(TellError::Refused(error)),
        _ if tell.json => line,
        Reply::Jacks { jacks } => jack_table(&jacks),
        Reply::Status {
            driver,
            streams,
            jacks,
            ..
        } => status(driver, &streams, &jacks),
    };
    let printed = io::stdout().write_all(text.as_bytes());
    printed.map_err(|error| TellError::Talk("standard output".into(), error))
}

/// One command, and the line that answers it.
fn talk(path: &Path, command: &Command) -> Result<String, TellError> {
    let mut socket = UnixStream::connect(path).map_err(|source| {
        let hint = match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "; is a device running with --command-socket there?"
            }
            io::ErrorKind::PermissionDenied => "; it belongs to the user who runs the device",
            _ => "",
        };
        let path = path.to_owned();
        TellError::Connect { path, source, hint }
    })?;
    let mut exchange = || {
        socket.set_read_timeout(Some(TIMEOUT))?;
        let mut line = serde_json::to_vec(command)?;
        line.push(b'\n');
        socket.write_all(&line)?;
        let mut reply = String::new();
        BufReader::new(&socket).read_line(&mut reply)?;
        if reply.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(reply)
    };
    exchange().map_err(|error| TellError::Talk(path.to_owned(), error))
}

fn jack_table(jacks: &[JackReply]) -> String {
    let mut text = String::new();
    for jack in jacks {
        let state = if jack.plugged { "plugged" } else { "unplugged" };
        let follows = jack.follows.as_deref();
        let follows = follows.map_or(String::new(), |element| format!("  follows {element}"));
        // Writing to a string does not fail.
        let _ = writeln!(text, "jack {}  {}  {state}{follows}", jack.id, jack.kind);
    }
    text
}

/// `-6.02 dB, silent`
fn peak_words(peaks: &[Option<f64>]) -> String {
    let word = |peak: &Option<f64>| match peak {
        Some(peak) => format!("{peak:.2} dB"),
        None => "silent".to_owned(),
    };
    peaks.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn status(driver: bool, streams: &[StreamReply], jacks: &[JackReply]) -> String {
    let mut text = format!("driver  {}\n", if driver { "attached" } else { "none" });
    for stream in streams {
        let name = stream.name.as_deref();
        let name = name.map_or(String::new(), |name| format!(" ({name})"));
        let _ = write!(
            text,
            "stream {}{name}  {} device {}  {}{}  {}",
            stream.id,
            stream.direction,
            stream.device,
            stream.host,
            if stream.away { " (away)" } else { "" },
            stream.state
        );
        if let Some(now) = &stream.parameters {
            let _ = write!(
                text,
                "  {} {} Hz {} channels  period {} of {} bytes  {} frames  {} gaps ({} frames)  \
                 delay {} frames  peak {}",
                now.format,
                now.rate,
                now.channels,
                now.period_bytes,
                now.buffer_bytes,
                stream.frames,
                stream.gaps,
                stream.lost,
                stream.delay_frames,
                peak_words(&stream.peak)
            );
        }
        text.push('\n');
    }
    text + &jack_table(jacks)
}
