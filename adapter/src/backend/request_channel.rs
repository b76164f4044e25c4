// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Requests of the device process (protocol feature BACKEND_REQ).
//!
//! A thread of its own receives and acknowledges them. If it were the event loop's, a device
//! process that waits for the acknowledgement of its request while the event loop waits for the
//! reply to another would stop both.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::sys::socket::{Shutdown, shutdown};
use vhost::vhost_user::{
    Error as VhostUserError, FrontendReqHandler, HandlerResult, VhostUserFrontendReqHandler,
};

/// Receives the requests; the only one it knows is a change of the config space.
struct Receiver {
    wake: UnixStream,
}

impl VhostUserFrontendReqHandler for Receiver {
    fn handle_config_change(&self) -> HandlerResult<u64> {
        match (&self.wake).write(&[1]) {
            // Full: the event loop has not seen the last change yet, and will see both as one.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written.map(|_| 0),
        }
    }
}

type Handler = FrontendReqHandler<Receiver>;

/// The channel on which a device process sends requests.
#[derive(Debug)]
pub struct RequestChannel {
    woken: UnixStream,
    socket: RawFd,
    // Returns the handler at its end, so that `socket` is open for as long as this is.
    thread: Option<JoinHandle<Handler>>,
}

impl RequestChannel {
    /// Makes the channel and hands the device process's end to `hand_over`, then receives.
    ///
    /// # Errors
    /// Those of `hand_over`, and of making sockets and a thread.
    pub fn open<E: From<io::Error>>(
        acknowledge: bool,
        hand_over: impl FnOnce(RawFd) -> Result<(), E>,
    ) -> Result<Self, E> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let mut handler =
            FrontendReqHandler::new(Arc::new(Receiver { wake })).map_err(io::Error::other)?;
        handler.set_reply_ack_flag(acknowledge);
        hand_over(handler.get_tx_raw_fd())?;
        let socket = handler.as_raw_fd();
        let thread = thread::Builder::new()
            .name("backend-requests".into())
            .spawn(move || receive(handler))?;
        Ok(Self {
            woken,
            socket,
            thread: Some(thread),
        })
    }

    /// Whether the config space has changed since the last call. Never waits.
    pub fn take_config_change(&self) -> bool {
        let mut bytes = [0; 64];
        let mut changed = false;
        while matches!((&self.woken).read(&mut bytes), Ok(length) if length > 0) {
            changed = true;
        }
        changed
    }
}

/// Readable when [`RequestChannel::take_config_change`] has something to tell.
impl AsFd for RequestChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

impl Drop for RequestChannel {
    fn drop(&mut self) {
        // Ends the thread's read. It fails only where the thread has ended already.
        let _ = shutdown(self.socket, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // Its result only had to live until here.
            let _ = thread.join();
        }
    }
}

fn receive(mut handler: Handler) -> Handler {
    let mut level = log::Level::Warn;
    loop {
        match handler.handle_request() {
            Ok(_) => {}
            Err(VhostUserError::ReqHandlerError(error)) => {
                log::log!(level, "refused a request of the device process: {error}");
                // Once: it may go on as long as it likes.
                level = log::Level::Debug;
            }
            Err(VhostUserError::Disconnected) => return handler,
            Err(error) => {
                log::warn!("the device process's request channel is broken: {error}");
                return handler;
            }
        }
    }
}
