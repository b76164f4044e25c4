// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Asks a device process on its command socket how it is: `{"command":"status"}`, one line, and a
//! line with a JSON object for an answer.
//!
//! What is in the answer is the device process's affair. Nothing in it is relied on: a process that
//! hangs, floods or talks nonsense costs the one who asks [`LIMIT`] and gets no attention.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{getsockopt, sockopt};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

use crate::command_socket;
use crate::signals::poll_until;
use crate::unix_socket::connect_at_once;

/// How long an answer is waited for. A sound device may measure for half a second before it says how
/// loud it is.
pub const LIMIT: Duration = Duration::from_secs(1);
/// No answer is longer.
const LONGEST: usize = 1 << 20;
const QUESTION: &[u8] = b"{\"command\":\"status\"}\n";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// socket(), connect(), read() or write()
    #[error("{0}")]
    Talk(#[from] io::Error),
    /// The socket is what a process that has ended left behind.
    #[error("nobody listens on its command socket")]
    Nobody,
    /// The socket is for others.
    #[error(
        "this user may not ask it (root may; of systemd's units members of the group virtio-loopback, too)"
    )]
    NotAllowed,
    /// It is stopped, hangs, or has more to do than it can.
    #[error("no answer within {} ms", LIMIT.as_millis())]
    Silent,
    /// It has closed the connection.
    #[error("it hung up without an answer")]
    HungUp,
    /// More than a megabyte.
    #[error("its answer has more than {} KiB", LONGEST >> 10)]
    TooLong,
    /// No JSON, or no object.
    #[error("its answer is no JSON object")]
    NoObject,
    /// It understood and did not want to.
    #[error("it refuses: {0}")]
    Refused(String),
}

/// What a device process says about itself.
#[derive(Debug)]
pub struct DeviceAnswer {
    /// Where it was asked.
    pub socket: PathBuf,
    /// Its process id, where that is known.
    pub process: Option<i32>,
    /// What it said.
    pub answer: Result<Value, AskError>,
}

impl DeviceAnswer {
    /// Asks the device process of the device `name`, if it has a command socket below `root`.
    pub fn ask(root: &Path, name: &str) -> Option<Self> {
        let mut nobody = None;
        // One may be left over, and another one in use.
        for socket in command_socket::all(root, name) {
            let answer = Self::at(socket);
            if !matches!(answer.answer, Err(AskError::Nobody | AskError::NotAllowed)) {
                return Some(answer);
            }
            nobody = nobody.or(Some(answer));
        }
        nobody
    }

    fn at(socket: PathBuf) -> Self {
        let (process, answer) = match ask(&socket, Instant::now() + LIMIT) {
            Ok((process, value)) => (process, Ok(value)),
            Err(error) => (None, Err(error)),
        };
        // Whoever made the socket need not be who answers on it, so its own word goes first.
        let own = answer.as_ref().ok().and_then(|value| value.get("process"));
        let own = own
            .and_then(Value::as_i64)
            .and_then(|id| id.try_into().ok());
        Self {
            socket,
            process: own.or(process),
            answer,
        }
    }
}

/// For programs: the answer as it came, or why there is none.
impl Serialize for DeviceAnswer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("command_socket", &self.socket.to_string_lossy())?;
        map.serialize_entry("process", &self.process)?;
        match &self.answer {
            Ok(value) => map.serialize_entry("answer", value)?,
            Err(error) => map.serialize_entry("error", &error.to_string())?,
        }
        map.end()
    }
}

/// One question, one answer, and the process that made the socket.
fn ask(path: &Path, due: Instant) -> Result<(Option<i32>, Value), AskError> {
    let mut socket = connect_at_once(path).map_err(no_connection)?;
    // 1 is a system manager that made the socket for somebody else.
    let process = getsockopt(&socket, sockopt::PeerCredentials).ok();
    let process = process.map(|peer| peer.pid()).filter(|id| *id > 1);
    socket.write_all(QUESTION)?;
    let mut answer = Vec::new();
    let mut block = [0; 4096];
    while !answer.contains(&b'\n') {
        let mut files = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll_until(&mut files, Some(due))?;
        match socket.read(&mut block) {
            Ok(0) if answer.is_empty() => return Err(AskError::HungUp),
            Ok(0) => break,
            Ok(length) => answer.extend(block.iter().take(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if answer.len() > LONGEST {
            return Err(AskError::TooLong);
        }
        if Instant::now() >= due {
            return Err(AskError::Silent);
        }
    }
    let line = answer
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    understand(line).map(|value| (process, value))
}

/// A listener whose queue is full is a silent one.
fn no_connection(error: io::Error) -> AskError {
    match error.kind() {
        io::ErrorKind::WouldBlock => AskError::Silent,
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => AskError::Nobody,
        io::ErrorKind::PermissionDenied => AskError::NotAllowed,
        _ => error.into(),
    }
}

fn understand(line: &[u8]) -> Result<Value, AskError> {
    let value: Value = serde_json::from_slice(line).map_err(|_| AskError::NoObject)?;
    match value.get("error").and_then(Value::as_str) {
        Some(error) => Err(AskError::Refused(error.to_owned())),
        None if value.is_object() => Ok(value),
        None => Err(AskError::NoObject),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::thread;

    use super::*;
    use crate::unix_socket::tests::fill_queue;

    /// Asks a listener that treats its client like this.
    fn asked(serve: impl FnOnce(UnixStream) + Send + 'static) -> DeviceAnswer {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run/virtio-loopback");
        fs::create_dir_all(&folder).unwrap();
        let listener = UnixListener::bind(folder.join("music.commands")).unwrap();
        let serving = thread::spawn(move || serve(listener.accept().unwrap().0));
        let answer = DeviceAnswer::ask(root.path(), "music").unwrap();
        serving.join().unwrap();
        answer
    }

    fn says(text: Vec<u8>) -> impl FnOnce(UnixStream) + Send + 'static {
        move |mut client| {
            let mut question = [0; QUESTION.len()];
            client.read_exact(&mut question).unwrap();
            assert_eq!(question, QUESTION);
            // Who has heard enough hangs up.
            let _ = client.write_all(&text);
        }
    }

    #[test]
    fn an_answer_comes_as_it_is() {
        let answer = asked(says(b"{\"streams\":[],\"new\":1}\n{\"more\":2}\n".to_vec()));
        let value = answer.answer.as_ref().unwrap();
        assert_eq!(value, &serde_json::json!({"streams": [], "new": 1}));
        assert_eq!(answer.process, Some(std::process::id() as i32));
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!(json["answer"]["new"], 1);
        assert!(json.get("error").is_none(), "{json}");
        let unended = asked(says(b"{\"driver\":true}".to_vec()));
        assert!(unended.answer.is_ok(), "{unended:?}");
        let other = asked(says(b"{\"process\":77}\n".to_vec()));
        assert_eq!(other.process, Some(77), "its own word goes first");
    }

    #[test]
    fn whoever_answers_nonsense_has_not_answered() {
        let refusal = |text: &[u8]| asked(says(text.to_vec())).answer.unwrap_err();
        for nonsense in [&b"hello\n"[..], b"[1]\n", b"\xff\n", b"\n", b"{\"a\":\n"] {
            assert!(matches!(refusal(nonsense), AskError::NoObject));
        }
        assert!(matches!(refusal(b""), AskError::HungUp));
        let refused = refusal(b"{\"error\":\"too many clients\"}\n");
        assert_eq!(refused.to_string(), "it refuses: too many clients");
        let flood = asked(says(vec![b'x'; 2 * LONGEST])).answer.unwrap_err();
        assert!(matches!(flood, AskError::TooLong), "{flood}");
    }

    #[test]
    fn whoever_is_silent_is_left() {
        let answer = asked(|mut client| {
            // Held until the other side has had enough.
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, QUESTION);
        });
        assert!(matches!(answer.answer, Err(AskError::Silent)));
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!(json["error"], "no answer within 1000 ms");
    }

    #[test]
    fn a_socket_that_was_left_over_hides_none_that_is_in_use() {
        let root = tempfile::tempdir().unwrap();
        let socket = |folder: &str| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            UnixListener::bind(folder.join("music.commands")).unwrap()
        };
        drop(socket("run/virtio-loopback"));
        let asked = || DeviceAnswer::ask(root.path(), "music").unwrap();
        assert!(matches!(asked().answer, Err(AskError::Nobody)));
        let listener = socket("run/user/1000/virtio-loopback");
        let serve = says(b"{}\n".to_vec());
        let serving = thread::spawn(move || serve(listener.accept().unwrap().0));
        let answer = asked();
        assert!(answer.answer.is_ok(), "{answer:?}");
        assert!(answer.socket.starts_with(root.path().join("run/user/1000")));
        serving.join().unwrap();
    }

    #[test]
    fn who_may_not_ask_is_told_so() {
        let error = no_connection(io::ErrorKind::PermissionDenied.into());
        assert!(matches!(error, AskError::NotAllowed), "{error:?}");
    }

    #[test]
    fn a_queue_that_is_full_and_a_socket_without_listener_are_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("full");
        let due = Instant::now() + LIMIT;
        let listener = UnixListener::bind(&path).unwrap();
        let (waiting, _) = fill_queue(&listener, &path);
        let error = ask(&path, due).unwrap_err();
        assert!(matches!(error, AskError::Silent), "{error}");
        drop((listener, waiting));
        let error = ask(&path, due).unwrap_err();
        assert!(matches!(error, AskError::Nobody), "{error}");
        assert!(
            DeviceAnswer::ask(root.path(), "music").is_none(),
            "no socket"
        );
    }
}
