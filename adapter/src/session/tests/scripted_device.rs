// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A device process that does what no good one does: it answers each vhost-user message from a
//! script, and fails where the script says so.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vmm_sys_util::sock_ctrl_msg::ScmSocket;

pub const GET_FEATURES: u32 = 1;
pub const SET_FEATURES: u32 = 2;
pub const SET_OWNER: u32 = 3;
pub const SET_MEM_TABLE: u32 = 5;
pub const SET_VRING_NUM: u32 = 8;
pub const SET_VRING_ADDR: u32 = 9;
pub const SET_VRING_BASE: u32 = 10;
pub const GET_VRING_BASE: u32 = 11;
pub const SET_VRING_KICK: u32 = 12;
pub const SET_VRING_CALL: u32 = 13;
pub const GET_PROTOCOL_FEATURES: u32 = 15;
pub const SET_PROTOCOL_FEATURES: u32 = 16;
pub const GET_QUEUE_NUM: u32 = 17;
pub const SET_VRING_ENABLE: u32 = 18;
pub const SET_BACKEND_REQ_FD: u32 = 21;
pub const GET_CONFIG: u32 = 24;
pub const SET_CONFIG: u32 = 25;

/// Protocol features MQ, REPLY_ACK, BACKEND_REQ and CONFIG.
pub const PROTOCOL: u64 = 1 << 0 | 1 << 3 | 1 << 5 | 1 << 9;

const BACKEND_CONFIG_CHANGE_MSG: u32 = 2;
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// What a message does instead of being answered well.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Closes the connection.
    Close,
    /// Says nothing.
    Silent,
    /// Refuses (REPLY_ACK with an error), or answers GET_CONFIG with no bytes.
    Refuse,
    /// Answers well, a second later.
    Slow,
    /// Sends a reply to another message.
    Nonsense,
    /// Reports a config change and waits for its acknowledgement before it answers.
    ChangeFirst,
}

#[derive(Clone, Debug)]
pub struct Script {
    pub features: u64,
    pub protocol: u64,
    pub queues: u64,
    pub config: Vec<u8>,
    /// Longest queue that is not refused.
    pub queue_size: u32,
    pub faults: BTreeMap<u32, Fault>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            features: 1 << 32 | 1 << 30,
            protocol: PROTOCOL,
            queues: 2,
            config: Vec::new(),
            queue_size: 1024,
            faults: BTreeMap::new(),
        }
    }
}

impl Script {
    pub fn with_fault(code: u32, fault: Fault) -> Self {
        Self {
            faults: BTreeMap::from([(code, fault)]),
            ..Self::default()
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// Code and body of each message.
    log: Vec<(u32, Vec<u8>)>,
    requests: Option<UnixStream>,
    config: Vec<u8>,
}

/// A running device process.
pub struct ScriptedDevice {
    shared: Arc<Mutex<Shared>>,
    socket: UnixStream,
    thread: JoinHandle<()>,
}

impl ScriptedDevice {
    /// Starts one; returns the adapter's end of its connection.
    pub fn start(script: Script) -> (UnixStream, Self) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let config = script.config.clone();
        let shared = Arc::new(Mutex::new(Shared {
            config,
            ..Shared::default()
        }));
        let socket = theirs.try_clone().unwrap();
        let device = Device {
            script,
            shared: Arc::clone(&shared),
            socket: theirs,
        };
        let thread = thread::spawn(move || device.serve());
        (
            ours,
            Self {
                shared,
                socket,
                thread,
            },
        )
    }

    /// Codes of the messages that came.
    pub fn codes(&self) -> Vec<u32> {
        self.shared
            .lock()
            .unwrap()
            .log
            .iter()
            .map(|(code, _)| *code)
            .collect()
    }

    /// The bodies of the messages with this code.
    pub fn bodies(&self, of: u32) -> Vec<Vec<u8>> {
        let shared = self.shared.lock().unwrap();
        shared
            .log
            .iter()
            .filter(|(code, _)| *code == of)
            .map(|(_, body)| body.clone())
            .collect()
    }

    /// Changes the config space and says so.
    pub fn change_config(&self, config: &[u8]) {
        let mut shared = self.shared.lock().unwrap();
        shared.config = config.to_vec();
        let requests = shared.requests.as_ref().expect("a request channel");
        (&*requests)
            .write_all(&message(BACKEND_CONFIG_CHANGE_MSG, VERSION, &[]))
            .unwrap();
    }

    /// Closes the connection.
    pub fn close(self) {
        self.socket.shutdown(Shutdown::Both).unwrap();
        self.join();
    }

    /// Waits for its end, which is that of the connection.
    pub fn join(self) {
        self.thread.join().unwrap();
    }
}

struct Device {
    script: Script,
    shared: Arc<Mutex<Shared>>,
    socket: UnixStream,
}

impl Device {
    fn serve(mut self) {
        while let Some((code, flags, body)) = self.receive() {
            self.shared.lock().unwrap().log.push((code, body.clone()));
            match self.script.faults.get(&code) {
                Some(Fault::Close) => return self.socket.shutdown(Shutdown::Both).unwrap(),
                Some(Fault::Silent) => continue,
                Some(Fault::Slow) => {
                    thread::sleep(Duration::from_secs(1));
                    self.answer(code, flags, &body);
                }
                Some(Fault::Refuse) => self.refuse(code, &body),
                Some(Fault::Nonsense) => self.reply(99, &0u64.to_le_bytes()),
                Some(Fault::ChangeFirst) => {
                    self.change_and_wait();
                    self.answer(code, flags, &body);
                }
                None => self.answer(code, flags, &body),
            }
        }
    }

    fn receive(&mut self) -> Option<(u32, u32, Vec<u8>)> {
        let mut header = [0; 12];
        let (length, file) = self.socket.recv_with_fd(&mut header).ok()?;
        let rest = header.get_mut(length..).filter(|_| length > 0)?;
        self.socket.read_exact(rest).ok()?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let mut body = vec![0; word(8) as usize];
        self.socket.read_exact(&mut body).ok()?;
        if word(0) == SET_BACKEND_REQ_FD {
            let socket = UnixStream::from(OwnedFd::from(file.expect("a descriptor")));
            self.shared.lock().unwrap().requests = Some(socket);
        }
        Some((word(0), word(4), body))
    }

    fn answer(&mut self, code: u32, flags: u32, body: &[u8]) {
        let words = |words: [u64; 1]| words[0].to_le_bytes().to_vec();
        let body = match code {
            GET_FEATURES => words([self.script.features]),
            GET_PROTOCOL_FEATURES => words([self.script.protocol]),
            GET_QUEUE_NUM => words([self.script.queues]),
            GET_VRING_BASE => body.to_vec(),
            GET_CONFIG => {
                let config = self.shared.lock().unwrap().config.clone();
                let size = u32::from_le_bytes(body[4..8].try_into().unwrap()) as usize;
                if size != config.len() {
                    return self.refuse(code, body);
                }
                [&body[..12], &config].concat()
            }
            SET_VRING_NUM if flags & NEED_REPLY != 0 => {
                let size = u32::from_le_bytes(body[4..8].try_into().unwrap());
                words([u64::from(size > self.script.queue_size)])
            }
            SET_CONFIG => {
                let at = u32::from_le_bytes(body[..4].try_into().unwrap()) as usize;
                let data = &body[12..];
                let config = &mut self.shared.lock().unwrap().config;
                config[at..at + data.len()].copy_from_slice(data);
                words([0])
            }
            _ if flags & NEED_REPLY != 0 => words([0]),
            _ => return,
        };
        self.reply(code, &body);
    }

    fn refuse(&mut self, code: u32, body: &[u8]) {
        match code {
            // As the vhost crate's backends: the request's header with size 0, no bytes.
            GET_CONFIG => self.reply(code, &[&body[..4], &[0; 4], &body[8..12]].concat()),
            _ => self.reply(code, &1u64.to_le_bytes()),
        }
    }

    fn reply(&mut self, code: u32, body: &[u8]) {
        // The adapter may have given up; then the next receive() ends this.
        let _ = self.socket.write_all(&message(code, VERSION | REPLY, body));
    }

    fn change_and_wait(&self) {
        let requests = self
            .shared
            .lock()
            .unwrap()
            .requests
            .as_ref()
            .unwrap()
            .try_clone()
            .unwrap();
        let change = message(BACKEND_CONFIG_CHANGE_MSG, VERSION | NEED_REPLY, &[]);
        (&requests).write_all(&change).unwrap();
        (&requests).read_exact(&mut [0; 20]).unwrap();
    }
}

fn message(code: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let size = body.len() as u32;
    [
        &code.to_le_bytes()[..],
        &flags.to_le_bytes(),
        &size.to_le_bytes(),
        body,
    ]
    .concat()
}
