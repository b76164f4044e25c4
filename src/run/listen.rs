// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Frontends come and go: the listening socket, and the connection that is served.

use std::error::Error;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::libc;
use nix::poll::PollTimeout;
use vhost::vhost_user::{BackendReqHandler, Error as ProtocolError};

use super::RunError;
use crate::card::CardStatus;
use crate::device::Device;
use crate::session::{Offer, Session};
use crate::signals::{Awaited, Signals};

/// How long a frontend that cannot be let in, for want of descriptors or memory, waits until it is tried
/// again.
const PAUSE: Duration = Duration::from_millis(100);

/// Milliseconds for a frontend where no driver has used the card yet: whoever is to use it may have died while it
/// waited, and comes again; or nobody has come but who asks the card how it is.
const GRACE: u16 = 2000;

/// How long a device waits for the next frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// For ever.
    Always,
    /// While a driver uses the card. Somebody else listens, and starts the program for the next one,
    /// with the card as it is described then. That is a frontend, or who speaks at the command socket.
    InUse {
        /// Its driver may use it from the time of another process, which has died.
        replaces: bool,
    },
}

impl Stay {
    /// How long to wait for another frontend where one has gone; `None` where nobody waits.
    fn patience(self, device: &Device) -> Option<PollTimeout> {
        if self == Self::Always {
            return Some(PollTimeout::NONE);
        }
        match device.status(CardStatus::new(0, 0)) {
            Ok(status) if status.used && !status.driver => None,
            Ok(status) if !status.used => Some(GRACE.into()),
            // One that cannot be asked after is taken to be there.
            _ => Some(PollTimeout::NONE),
        }
    }
}

/// Serves one frontend after the other until a signal comes, or nobody uses the card.
///
/// # Errors
/// Signals cannot be waited for.
pub fn listen(
    listener: &UnixListener,
    stay: Stay,
    device: &Arc<Device>,
    offer: &Offer,
    signals: &Signals,
) -> Result<(), RunError> {
    let wait = |error| RunError::Wait("frontends", error);
    let mut failing = false;
    let mut limit = match stay {
        Stay::Always | Stay::InUse { replaces: true } => PollTimeout::NONE,
        Stay::InUse { replaces: false } => GRACE.into(),
    };
    loop {
        match signals.wait_for(listener.as_fd(), limit).map_err(wait)? {
            Awaited::Ready => {}
            Awaited::Signal => return Ok(()),
            Awaited::Nothing => {
                log::info!("nobody has come to use the card");
                return Ok(());
            }
        }
        match listener.accept() {
            Ok((socket, _)) => {
                log::info!("a frontend has connected");
                if let Err(error) = serve(socket, device, offer, signals) {
                    pause(&mut failing, &error);
                    continue;
                }
                failing = false;
                let Some(patience) = stay.patience(device) else {
                    log::info!("nobody uses the card any more");
                    return Ok(());
                };
                limit = patience;
            }
            // Somebody who has it, too, has shut the socket down: nobody will ever come.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return Err(RunError::Wait(
                    "frontends on a socket that is shut down",
                    error,
                ));
            }
            Err(error) => pause(&mut failing, &error),
        }
    }
}

/// A frontend could not be let in. It is still there, or comes again: said once, and tried again, but not
/// all the time.
fn pause(failing: &mut bool, error: &dyn Error) {
    if !std::mem::replace(failing, true) {
        log::error!("cannot let a frontend in, and tries on: {error}");
    }
    std::thread::sleep(PAUSE);
}

/// Serves one connection until it or the program is to end.
///
/// # Errors
/// There are no descriptors, or is no thread, to wait for it with.
pub fn serve(
    socket: UnixStream,
    device: &Arc<Device>,
    offer: &Offer,
    signals: &Signals,
) -> Result<(), RunError> {
    let fail = |error| RunError::Wait("the frontend", error);
    let watched = socket.try_clone().map_err(fail)?;
    let session = Session::new(Arc::clone(device), offer.clone());
    let mut handler = BackendReqHandler::from_stream(socket, Arc::new(Mutex::new(session)));
    signals
        .hanging_up(&watched, || answer_requests(&mut handler))
        .map_err(fail)
}

/// Serves one connection until it ends by itself.
#[cfg(any(test, fuzzing))]
pub fn talk(socket: UnixStream, device: &Arc<Device>, offer: &Offer) {
    let session = Session::new(Arc::clone(device), offer.clone());
    let session = Arc::new(Mutex::new(session));
    answer_requests(&mut BackendReqHandler::from_stream(socket, session));
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
