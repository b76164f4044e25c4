// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What can go wrong in `run`.

use std::io;
use std::process::ExitStatus;

use crate::backend::BackendError;
use crate::device_process::ProcessError;
use crate::device_type::DeviceType;
use crate::driver::DriverError;
use crate::event_loop::LoopError;
use crate::session::SessionError;
use crate::shortage::is_shortage;

/// `run` failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// sigaction() or poll()
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// connect(): nobody is there.
    #[error(
        "nobody listens on {path}: start the device process first, \
         for example: vhost-user-sound --socket-path {path}"
    )]
    NobodyListens {
        /// The socket.
        path: String,
        /// Of connect().
        source: io::Error,
    },
    /// connect()
    #[error("cannot connect to {path}{hint}")]
    Connect {
        /// The socket.
        path: String,
        /// What may help.
        hint: &'static str,
        /// Of connect().
        source: io::Error,
    },
    /// A device of that name is of another type.
    #[error(
        "the device {name} exists already, but it is a virtio device {device}: choose another name, \
         or remove it with: virtio-loopback destroy {name}"
    )]
    OtherType {
        /// Of the device.
        name: String,
        /// Its type.
        device: DeviceType,
    },
    /// The device process does not offer what the device of that name has.
    #[error(
        "the device {name} exists already, but {difference}: start the device process as before, \
         choose another name, or remove the device with: virtio-loopback destroy {name}"
    )]
    OtherShape {
        /// Of the device.
        name: String,
        /// What is different.
        difference: String,
    },
    /// The COMMAND ended.
    #[error("the device process ended ({0})")]
    CommandEnded(ExitStatus),
    /// The COMMAND closed its socket and runs on.
    #[error("the device process closed its connection, but goes on running; it has been ended")]
    CommandSilent,
    /// The COMMAND serves, but the kernel does not know.
    #[error("the device process took too long to start; it has been ended")]
    StartedLate,
    /// The COMMAND was stopped by a signal.
    #[error("the device process was stopped by a signal; it has been killed")]
    CommandStopped,
    /// A step with the kernel.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A step with the device process.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// What the device process offers.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Serving.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// Starting or ending the COMMAND.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl RunError {
    /// The socket at `path` could not be connected to.
    pub(super) fn connect(path: String, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::PermissionDenied => {
                " (those of systemd's units are open to the group virtio-loopback; \
                 its members: usermod -aG virtio-loopback USER, and log in again)"
            }
            _ => "",
        };
        Self::Connect { path, hint, source }
    }

    /// Whether the device process has gone, so that another one may come.
    pub(super) fn is_backend_closed(&self) -> bool {
        self.backend().is_some_and(BackendError::is_closed)
    }

    /// Whether the device process is there and says nothing.
    pub(super) fn is_no_answer(&self) -> bool {
        self.backend().is_some_and(BackendError::is_no_answer)
    }

    /// Whether it was left off because this program is to end.
    pub(super) fn is_interrupted(&self) -> bool {
        matches!(self.backend(), Some(BackendError::Interrupted { .. }))
    }

    /// The step with the device process that failed.
    fn backend(&self) -> Option<&BackendError> {
        match self {
            Self::Backend(error)
            | Self::Session(SessionError::Backend(error))
            | Self::Loop(LoopError::Session(SessionError::Backend(error))) => Some(error),
            _ => None,
        }
    }

    /// Whether nobody listens where the device process is to.
    pub(super) fn is_nobody(&self) -> bool {
        matches!(self, Self::NobodyListens { .. })
    }

    /// Whether the device process does not do as it is asked, or does not offer what the device has.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::OtherShape { .. } => true,
            Self::Driver(error) => error.is_refusal(),
            Self::Backend(error) => error.is_refusal(),
            Self::Session(error) | Self::Loop(LoopError::Session(error)) => error.is_refusal(),
            _ => false,
        }
    }

    /// Whether the machine lacks something that it may have again in a moment.
    pub(super) fn is_shortage(&self) -> bool {
        is_shortage(self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::errno::Errno;

    use super::*;
    use crate::backend::Step;

    #[test]
    fn a_shortage_is_seen_at_every_step() {
        let short = || io::Error::from(Errno::EMFILE);
        let path = || "/run/x".to_owned();
        let open = DriverError::Open {
            path: path(),
            source: short(),
        };
        let connect = |source| RunError::connect(path(), source);
        for error in [
            connect(short()),
            BackendError::Setup(short()).into(),
            open.into(),
            DriverError::List(Errno::ENOMEM).into(),
            SessionError::Eventfd(short()).into(),
            LoopError::Session(SessionError::Eventfd(short())).into(),
            LoopError::from(DriverError::GetMemory(Errno::ENFILE)).into(),
            ProcessError::Start(short()).into(),
        ] {
            assert!(error.is_shortage(), "{error:?}");
            assert!(!error.is_backend_closed(), "{error:?}");
        }
        assert!(!connect(Errno::EACCES.into()).is_shortage());
        assert!(!RunError::CommandSilent.is_shortage());
    }

    #[test]
    fn a_refusal_is_seen_at_every_step() {
        let step = Step::SetMemTable;
        let refused = || BackendError::Refused { step };
        for error in [
            RunError::from(refused()),
            SessionError::from(refused()).into(),
            LoopError::from(SessionError::from(refused())).into(),
            // What only a later device process can offer.
            RunError::OtherShape {
                name: "music".into(),
                difference: "it has 4 queues, not 2".into(),
            },
            DriverError::TooManyItems.into(),
            LoopError::from(DriverError::TooManyItems).into(),
            LoopError::from(SessionError::FeaturesLost { missing: 1 }).into(),
        ] {
            assert!(
                error.is_refusal() && !error.is_backend_closed(),
                "{error:?}"
            );
        }
        let other_type = RunError::OtherType {
            name: "music".into(),
            device: DeviceType::of_id(4),
        };
        for error in [RunError::CommandSilent, other_type] {
            assert!(!error.is_refusal(), "{error:?}");
        }
        assert!(!RunError::from(DriverError::Gone).is_refusal());
    }

    #[test]
    fn a_device_process_that_has_gone_is_seen_at_every_step() {
        let gone = || BackendError::NoAnswer {
            step: Step::GetFeatures,
            limit: Duration::from_secs(5),
        };
        for error in [
            RunError::from(gone()),
            SessionError::from(gone()).into(),
            LoopError::from(SessionError::from(gone())).into(),
        ] {
            assert!(
                error.is_backend_closed() && !error.is_refusal(),
                "{error:?}"
            );
        }
    }
}
