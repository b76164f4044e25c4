// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device's end of its command socket. Each client has a thread of its own, which waits for it
//! without anybody else, and asks the audio thread as little as a frontend does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::{Command, JackReply, Parameters, Reply, StreamReply};
use crate::card::{CardStatus, StreamStatus};
use crate::description::{Description, HostElement, Jack};
use crate::device::Device;
use crate::events::Notice;
use crate::meter::decibels;
use crate::stream::{Params, State};

/// Clients that are served at once; others are told to come again.
const CLIENTS: usize = 8;
/// No command is longer.
const LINE_MAX: u64 = 4096;
/// A client that does not read its reply is dropped,
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// and so is one that says nothing, which may have forgotten the socket.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How long sound is measured for who asks once: two periods of it, within these bounds.
const SHORTEST_MOMENT: Duration = Duration::from_millis(100);
const LONGEST_MOMENT: Duration = Duration::from_millis(500);
/// How long a client that cannot be let in waits until it is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// A client needs little stack, and locked memory is counted.
const STACK: usize = 128 << 10;

/// Serves clients for as long as the program lives.
///
/// # Errors
/// The system gives no thread.
pub fn start(
    listener: UnixListener,
    device: Weak<Device>,
    description: Description,
) -> io::Result<()> {
    let desk = Arc::new(Desk {
        device,
        description,
    });
    let accept = move || {
        let mut failing = false;
        for client in listener.incoming() {
            match client {
                Ok(client) => {
                    failing = false;
                    welcome(client, &desk);
                }
                // Out of descriptors, most likely: said once, and tried again, but not all the time.
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        log::warn!("command socket: cannot let a client in, and tries on: {error}");
                    }
                    thread::sleep(PAUSE);
                }
            }
        }
    };
    let thread = thread::Builder::new().name("commands".to_owned());
    thread.stack_size(STACK).spawn(accept).map(|_| ())
}

/// Answers one client until it goes.
#[cfg(any(test, fuzzing))]
pub fn talk(client: &UnixStream, device: Weak<Device>, description: Description) {
    let desk = Desk {
        device,
        description,
    };
    let _ = desk.serve(client);
}

/// Gives a client its thread.
fn welcome(mut client: UnixStream, desk: &Arc<Desk>) {
    let _ = client.set_write_timeout(Some(WRITE_TIMEOUT));
    let _ = client.set_read_timeout(Some(READ_TIMEOUT));
    // This thread holds one, each client another.
    if Arc::strong_count(desk) > CLIENTS {
        let full = refuse("too many clients; try again later");
        let _ = answer(&mut client, &full);
        return;
    }
    let desk = Arc::clone(desk);
    let serve = move || {
        if let Err(error) = desk.serve(&client) {
            log::debug!("client of the command socket: {error}");
        }
    };
    let thread = thread::Builder::new().name("command".to_owned());
    if let Err(error) = thread.stack_size(STACK).spawn(serve) {
        log::warn!("command socket: {error}");
    }
}

fn refuse(error: impl Into<String>) -> Reply {
    Reply::Refused {
        error: error.into(),
    }
}

fn answer(client: &mut impl Write, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    client.write_all(&line)
}

/// What commands are answered from.
struct Desk {
    /// The device; it ends although clients are there.
    device: Weak<Device>,
    description: Description,
}

impl Desk {
    /// Answers one client until it goes, or sends what is no line of text.
    fn serve(&self, mut client: &UnixStream) -> io::Result<()> {
        let mut lines = BufReader::new(client);
        let mut line = Vec::new();
        loop {
            line.clear();
            lines
                .by_ref()
                .take(LINE_MAX + 1)
                .read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Ok(());
            }
            if line.len() as u64 > LINE_MAX {
                let long = format!("a command is one line of at most {LINE_MAX} bytes");
                return answer(&mut client, &refuse(long));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let reply = match serde_json::from_slice(&line) {
                Ok(command) => self.carry_out(command),
                Err(error) => refuse(format!("no command: {error}")),
            };
            answer(&mut client, &reply)?;
        }
    }

    fn carry_out(&self, command: Command) -> Reply {
        let carried_out = match command {
            Command::Jack { jack, plugged } => self.plug(&jack, plugged),
            Command::Jacks {} => self.jacks(|_| true),
            Command::Status {} => self.status(),
        };
        carried_out.unwrap_or_else(refuse)
    }

    fn device(&self) -> Result<Arc<Device>, String> {
        self.device
            .upgrade()
            .ok_or_else(|| "the device is ending".to_owned())
    }

    fn ask(&self) -> Result<CardStatus, String> {
        let room = CardStatus::new(self.description.streams.len(), self.description.jacks.len());
        let status = self.device()?.status(room);
        status.map_err(|error| error.to_string())
    }

    fn plug(&self, jack: &str, plugged: bool) -> Result<Reply, String> {
        let id = find(&self.description.jacks, jack)?;
        let told = self.device()?.tell(Notice::Jack { id, plugged });
        told.map_err(|error| error.to_string())?;
        self.jacks(|other| other == id)
    }

    fn jacks(&self, wanted: impl Fn(usize) -> bool) -> Result<Reply, String> {
        let mut jacks = jack_replies(&self.description.jacks, &self.ask()?);
        jacks.retain(|jack| wanted(jack.id));
        Ok(Reply::Jacks { jacks })
    }

    /// The first question in a while only has the sound measured from now on: a moment of it answers
    /// who asks once.
    fn ask_for_peaks(&self) -> Result<CardStatus, String> {
        let status = self.ask()?;
        let unmeasured = |stream: &&StreamStatus| stream.peaks.is_none();
        let running = status.streams.iter().filter(unmeasured);
        let running = running.filter(|stream| stream.state == State::Running);
        let Some(moment) = running.filter_map(|stream| moment(stream.params?)).max() else {
            return Ok(status);
        };
        drop(status);
        thread::sleep(moment);
        self.ask()
    }

    fn status(&self) -> Result<Reply, String> {
        let status = self.ask_for_peaks()?;
        let streams = self.description.streams.iter().zip(&status.streams);
        let streams = streams.enumerate().map(|(id, (stream, now))| StreamReply {
            id,
            name: stream.name.clone(),
            direction: stream.direction.to_string(),
            device: stream.device,
            host: stream.host.to_string(),
            away: now.away,
            role: stream.host.role().map(|role| role.name.to_owned()),
            state: name_of(now.state).to_owned(),
            parameters: now.params.map(parameters),
            frames: now.tally.frames,
            gaps: now.tally.gaps,
            lost: now.tally.lost,
            peak: peaks(now),
            delay_frames: now.delay,
        });
        Ok(Reply::Status {
            process: process::id(),
            driver: status.driver,
            streams: streams.collect(),
            jacks: jack_replies(&self.description.jacks, &status),
        })
    }
}

/// A time in which samples of a stream pass.
fn moment(params: Params) -> Option<Duration> {
    let periods = Duration::from_nanos(params.nanos(params.period_bytes)).checked_mul(2)?;
    Some(periods.clamp(SHORTEST_MOMENT, LONGEST_MOMENT))
}

/// The peak of each channel in decibels.
fn peaks(status: &StreamStatus) -> Vec<Option<f64>> {
    let channels = status.params.map_or(0, |params| params.channels.into());
    let peaks = status.peaks.unwrap_or_default().into_iter();
    peaks.take(channels).map(decibels).collect()
}

fn jack_replies(jacks: &[Jack], status: &CardStatus) -> Vec<JackReply> {
    let jacks = jacks.iter().zip(&status.jacks).enumerate();
    let reply = |(id, (jack, &plugged)): (usize, (&Jack, &bool))| JackReply {
        id,
        kind: jack.kind.to_string(),
        plugged,
        follows: jack.follow.as_ref().map(element),
    };
    jacks.map(reply).collect()
}

fn element(element: &HostElement) -> String {
    let HostElement { card, name, index } = element;
    match index {
        0 => format!("{card} {name}"),
        _ => format!("{card} {name},{index}"),
    }
}

fn parameters(params: Params) -> Parameters {
    Parameters {
        format: params.format.name.to_owned(),
        rate: params.rate,
        channels: params.channels,
        period_bytes: params.period_bytes,
        buffer_bytes: params.buffer_bytes,
        period_frames: params.period_frames(),
        buffer_frames: u64::from(params.buffer_bytes / params.frame_bytes()),
    }
}

fn name_of(state: State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::ParametersSet => "set-up",
        State::Prepared => "prepared",
        State::Running => "running",
        State::Stopped => "stopped",
        State::Released => "released",
    }
}

/// The jack of this number, or the only one of this kind.
fn find(jacks: &[Jack], name: &str) -> Result<usize, String> {
    let listed = |ids: &[usize]| {
        let names: Vec<_> = ids.iter().map(usize::to_string).collect();
        names.join(", ")
    };
    if let Ok(id) = name.parse::<usize>() {
        if id < jacks.len() {
            return Ok(id);
        }
        return Err(format!(
            "there is no jack {id}; the card has {}",
            jacks.len()
        ));
    }
    let of_kind = |(id, jack): (usize, &Jack)| (jack.kind.to_string() == name).then_some(id);
    let found: Vec<_> = jacks.iter().enumerate().filter_map(of_kind).collect();
    match found[..] {
        [id] => Ok(id),
        [] if jacks.is_empty() => Err(format!("there is no {name} jack; the card has none")),
        [] => {
            let kinds: Vec<_> = jacks.iter().map(|jack| jack.kind.to_string()).collect();
            let kinds = kinds.join(", ");
            Err(format!("there is no {name} jack; the card has {kinds}"))
        }
        _ => Err(format!(
            "jacks {} are {name} jacks; say which by its number",
            listed(&found)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::JackKind;

    #[test]
    fn a_client_that_neither_says_nor_reads_anything_is_not_waited_for_for_ever() {
        let (_client, ours) = UnixStream::pair().unwrap();
        let seen = ours.try_clone().unwrap();
        let desk = Desk {
            device: Weak::new(),
            description: Description::default(),
        };
        welcome(ours, &Arc::new(desk));
        assert_eq!(seen.read_timeout().unwrap(), Some(READ_TIMEOUT));
        assert_eq!(seen.write_timeout().unwrap(), Some(WRITE_TIMEOUT));
    }

    #[test]
    fn a_jack_is_found_by_number_or_kind() {
        let jack = |kind| Jack {
            kind,
            plugged: false,
            follow: None,
        };
        let jacks = [
            JackKind::Headphone,
            JackKind::Microphone,
            JackKind::Headphone,
        ]
        .map(jack);
        assert_eq!(find(&jacks, "1"), Ok(1));
        assert_eq!(find(&jacks, "microphone"), Ok(1));
        let wrong = [
            ("3", "the card has 3"),
            ("headphone", "jacks 0, 2 are headphone jacks"),
            ("speaker", "headphone, microphone, headphone"),
            ("-1", "no -1 jack"),
        ];
        for (name, says) in wrong {
            let error = find(&jacks, name).unwrap_err();
            assert!(error.contains(says), "{name}: {error}");
        }
        assert!(find(&[], "headphone").unwrap_err().contains("has none"));
    }
}
