// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Says on the socket what a well-made frontend would not: bytes of any kind.

use std::io::{ErrorKind, IoSlice, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::driver::LIMIT;

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
pub const SET_VRING_ERR: u32 = 14;
pub const GET_PROTOCOL_FEATURES: u32 = 15;
pub const SET_PROTOCOL_FEATURES: u32 = 16;
pub const SET_VRING_ENABLE: u32 = 18;
pub const SET_BACKEND_REQ_FD: u32 = 21;
pub const GET_CONFIG: u32 = 24;
pub const SET_CONFIG: u32 = 25;
pub const RESET_DEVICE: u32 = 34;

/// Protocol features MQ, REPLY_ACK, BACKEND_REQ, CONFIG and RESET_DEVICE.
pub const PROTOCOL_FEATURES: u64 = 1 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 13;
/// Version 1, and the sender wants an answer.
const NEED_REPLY: u32 = 1 | 1 << 3;

/// A connection without a protocol.
pub struct RawFrontend {
    socket: UnixStream,
}

impl RawFrontend {
    /// A connection on which nothing has been said.
    pub fn new(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self { socket }
    }

    /// A connection whose requests are answered, with CONFIG and MQ.
    pub fn negotiated(socket: UnixStream) -> Self {
        let mut raw = Self::new(socket);
        let features: u64 = 1 << 32 | 1 << 30;
        raw.send(SET_OWNER, 1, &[], &[]);
        for request in [GET_FEATURES, GET_PROTOCOL_FEATURES] {
            raw.send(request, 1, &[], &[]);
            raw.answer().unwrap();
        }
        raw.send(SET_FEATURES, 1, &features.to_le_bytes(), &[]);
        let protocol_features = PROTOCOL_FEATURES.to_le_bytes();
        raw.send(SET_PROTOCOL_FEATURES, 1, &protocol_features, &[]);
        raw
    }

    /// Sends bytes as they are. A device that has hung up already is no fault.
    pub fn send_bytes(&mut self, bytes: &[u8], fds: &[RawFd]) {
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights };
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_NOSIGNAL;
        let _ = sendmsg::<()>(fd, &[IoSlice::new(bytes)], rights, flags, None);
    }

    /// Sends a message.
    pub fn send(&mut self, request: u32, flags: u32, payload: &[u8], fds: &[RawFd]) {
        let size = u32::try_from(payload.len()).unwrap();
        let mut message = Vec::new();
        for word in [request, flags, size] {
            message.extend(word.to_le_bytes());
        }
        message.extend(payload);
        self.send_bytes(&message, fds);
    }

    /// The payload of the next answer; `None` where the device hangs up.
    pub fn answer(&mut self) -> Option<Vec<u8>> {
        let header = self.receive(12)?;
        let size = u32::from_le_bytes(header[8..].try_into().unwrap());
        self.receive(size as usize)
    }

    fn receive(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        match self.socket.read_exact(&mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) => {
                let hung = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!hung, "the device neither answers nor hangs up");
                None
            }
        }
    }

    /// Sends a request that has no answer of its own; whether the device took it. It says no, or
    /// hangs up, where it did not.
    pub fn accepts(&mut self, request: u32, payload: &[u8], fds: &[RawFd]) -> bool {
        self.send(request, NEED_REPLY, payload, fds);
        self.answer().is_some_and(|answer| answer == [0; 8])
    }

    /// GET_CONFIG; the bytes that came, none where the device refused or hung up.
    pub fn config(&mut self, offset: u32, size: u32) -> Vec<u8> {
        let mut payload = Vec::new();
        for word in [offset, size, 0] {
            payload.extend(word.to_le_bytes());
        }
        payload.resize(12 + size.min(4096) as usize, 0);
        self.send(GET_CONFIG, 1, &payload, &[]);
        let answer = self.answer().unwrap_or_default();
        answer.get(12..).unwrap_or(&[]).to_vec()
    }
}
