// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `vhost-user-sound tell`: says one command to a running device and prints what it hears. The device
//! may be anybody's: its answer is neither endless nor anything that a terminal would obey.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Command, JackReply, Reply, StreamReply};
use crate::args::{Tell, What};
use crate::unix_socket::connect_at_once;

/// A device answers at once, unless it opens a sound card meanwhile.
const TIMEOUT: Duration = Duration::from_secs(10);
/// No answer is longer.
const ANSWER_MAX: usize = 1 << 20;

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
        Reply::Refused { error } => return Err(TellError::Refused(printable(&error))),
        _ if tell.json => printable_json(&line),
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
    let connected = connect_at_once(path).and_then(|socket| {
        socket.set_nonblocking(false)?;
        Ok(socket)
    });
    let socket = connected.map_err(|source| {
        let hint = match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                "; is a device running with --command-socket there?"
            }
            io::ErrorKind::PermissionDenied => {
                "; it is open to the user who runs the device, and with systemd's units to the group \
                 virtio-loopback"
            },
            io::ErrorKind::WouldBlock => "; others wait there already: it does not answer",
            _ => "",
        };
        let path = path.to_owned();
        TellError::Connect { path, source, hint }
    })?;
    exchange(&socket, command).map_err(|error| TellError::Talk(path.to_owned(), error))
}

fn exchange(mut socket: &UnixStream, command: &Command) -> io::Result<String> {
    socket.set_write_timeout(Some(TIMEOUT))?;
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    let written = socket.write_all(&line);
    let answered = || answer(socket, Instant::now() + TIMEOUT);
    match written {
        // A device that has too many clients says so, hears none of them and hangs up.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => answered().map_err(|_| error),
        written => written.and_then(|()| answered()),
    }
}

/// The line that answers, whole by `due`.
fn answer(mut socket: &UnixStream, due: Instant) -> io::Result<String> {
    let mut line = Vec::new();
    let mut block = [0; 4096];
    while !line.contains(&b'\n') {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.read(&mut block)?;
        if length == 0 {
            break;
        }
        line.extend(block.iter().take(length));
        if line.len() > ANSWER_MAX {
            return Err(io::Error::other(format!(
                "an answer of more than {ANSWER_MAX} bytes"
            )));
        }
    }
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let end = line.iter().position(|&byte| byte == b'\n');
    line.truncate(end.map_or(line.len(), |end| end + 1));
    String::from_utf8(line).map_err(io::Error::other)
}

/// Text that cannot do anything to a terminal or a table.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// JSON, which is valid, with its control characters written as escapes. Those below the space are
/// blanks between its words: its texts have none.
fn printable_json(line: &str) -> String {
    let mut text = String::new();
    for character in line.trim_end().chars() {
        match character {
            blank if blank < ' ' => text.push(' '),
            other if other.is_control() => {
                // Writing to a string does not fail.
                let _ = write!(text, "\\u{:04x}", u32::from(other));
            }
            other => text.push(other),
        }
    }
    text.push('\n');
    text
}

fn jack_table(jacks: &[JackReply]) -> String {
    let mut text = String::new();
    for jack in jacks {
        let state = if jack.plugged { "plugged" } else { "unplugged" };
        let follows = jack.follows.as_deref();
        let follows = follows.map_or(String::new(), |element| {
            format!("  follows {}", printable(element))
        });
        let kind = printable(&jack.kind);
        // Writing to a string does not fail.
        let _ = writeln!(text, "jack {}  {kind}  {state}{follows}", jack.id);
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
        let name = name.map_or(String::new(), |name| format!(" ({})", printable(name)));
        let _ = write!(
            text,
            "stream {}{name}  {} device {}  {}{}  {}",
            stream.id,
            printable(&stream.direction),
            stream.device,
            printable(&stream.host),
            if stream.away { " (away)" } else { "" },
            printable(&stream.state)
        );
        if let Some(now) = &stream.parameters {
            let _ = write!(
                text,
                "  {} {} Hz {} channels  period {} of {} bytes  {} frames  {} gaps ({} frames)  \
                 delay {} frames  peak {}",
                printable(&now.format),
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use nix::sys::socket::{Backlog, listen};

    use super::*;

    /// What becomes of bytes that a device says before it hangs up.
    fn heard(said: &'static [u8]) -> io::Result<String> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let device = std::thread::spawn(move || {
            let _ = theirs.write_all(said);
        });
        let line = answer(&ours, Instant::now() + TIMEOUT);
        drop(ours);
        device.join().unwrap();
        line
    }

    #[test]
    fn an_answer_is_one_line_with_an_end() {
        assert_eq!(heard(b"{}\n").unwrap(), "{}\n");
        assert_eq!(heard(b"{}\n{}\n").unwrap(), "{}\n");
        assert_eq!(heard(b"{}").unwrap(), "{}");
        assert!(heard(b"").is_err());
        assert!(heard(b"\xff\n").is_err());
        static ENDLESS: [u8; 2 * ANSWER_MAX] = [b' '; 2 * ANSWER_MAX];
        let error = heard(&ENDLESS).unwrap_err().to_string();
        assert!(error.contains("1048576 bytes"), "{error}");
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let late = answer(&ours, Instant::now()).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn who_is_turned_away_before_the_command_is_heard_is_told_why() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"{\"error\":\"no\"}\n").unwrap();
        drop(theirs);
        let heard = exchange(&ours, &Command::Jacks {}).unwrap();
        assert_eq!(heard, "{\"error\":\"no\"}\n");
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let error = exchange(&ours, &Command::Jacks {}).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_device_that_lets_nobody_in_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("commands");
        let listener = UnixListener::bind(&path).unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        let mut waiting = Vec::new();
        while let Ok(socket) = connect_at_once(&path) {
            waiting.push(socket);
        }
        let error = talk(&path, &Command::Jacks {}).unwrap_err().to_string();
        assert!(error.contains("it does not answer"), "{error}");
    }

    #[test]
    fn a_terminal_obeys_nothing_that_a_device_says() {
        let nasty = "\u{1b}]0;a\u{7}b\n\u{9b}2J\u{7f}ü";
        let line = serde_json::json!({"process": 1, "driver": false, "streams": [{
            "id": 0, "name": nasty, "direction": nasty, "device": 0, "host": nasty, "away": true,
            "state": nasty, "frames": 0, "gaps": 0, "lost": 0, "peak": [], "delay_frames": 0,
            "parameters": {"format": nasty, "rate": 1, "channels": 1, "period_bytes": 1,
                "buffer_bytes": 1, "period_frames": 1, "buffer_frames": 1},
        }], "jacks": [{"id": 0, "kind": nasty, "plugged": true, "follows": nasty}]});
        let line = format!("{line}\r\n");
        let reply: Reply = serde_json::from_str(&line).unwrap();
        let Reply::Status { streams, jacks, .. } = &reply else {
            panic!("{reply:?}");
        };
        let text = status(false, streams, jacks);
        assert!(
            !text.replace('\n', "").contains(char::is_control),
            "{text:?}"
        );
        assert_eq!(text.lines().count(), 3, "{text:?}");
        assert_eq!(text.matches("]0;ab2Jü").count(), 7, "{text:?}");
        let json = printable_json(&line);
        assert!(!json.trim_end().contains(char::is_control), "{json:?}");
        assert_eq!(serde_json::from_str::<Reply>(&json).unwrap(), reply);
    }
}
