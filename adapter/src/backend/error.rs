// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What can go wrong between the adapter and the device process.

use std::fmt;
use std::io;
use std::time::Duration;

use vhost::vhost_user::Error as VhostUserError;

/// One exchange of the vhost-user protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each is the message of this name in the vhost-user specification"
)]
pub enum Step {
    SetOwner,
    GetFeatures,
    SetFeatures,
    GetProtocolFeatures,
    SetProtocolFeatures,
    GetQueueNum,
    SetBackendReqFd,
    GetConfig { size: u32 },
    SetConfig { offset: u32, size: usize },
    SetMemTable,
    GetInflightFd { size: u16 },
    SetInflightFd,
    SetVringNum { queue: u32, size: u16 },
    SetVringAddr { queue: u32 },
    SetVringBase { queue: u32 },
    SetVringCall { queue: u32 },
    SetVringKick { queue: u32 },
    SetVringEnable { queue: u32 },
    GetVringBase { queue: u32 },
}

impl Step {
    /// Whether it is something that a driver which lets go of its device needs.
    pub(super) fn may_be_at_the_end(self) -> bool {
        matches!(
            self,
            Self::GetVringBase { .. } | Self::SetConfig { .. } | Self::GetConfig { .. }
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetOwner => write!(f, "SET_OWNER"),
            Self::GetFeatures => write!(f, "GET_FEATURES"),
            Self::SetFeatures => write!(f, "SET_FEATURES"),
            Self::GetProtocolFeatures => write!(f, "GET_PROTOCOL_FEATURES"),
            Self::SetProtocolFeatures => write!(f, "SET_PROTOCOL_FEATURES"),
            Self::GetQueueNum => write!(f, "GET_QUEUE_NUM"),
            Self::SetBackendReqFd => write!(f, "SET_BACKEND_REQ_FD"),
            Self::GetConfig { size } => {
                write!(
                    f,
                    "GET_CONFIG for {size} bytes (another size can be set: --config-size)"
                )
            }
            Self::SetConfig { offset, size } => {
                write!(f, "SET_CONFIG for {size} bytes at offset {offset}")
            }
            Self::SetMemTable => write!(f, "SET_MEM_TABLE"),
            Self::GetInflightFd { size } => {
                write!(f, "GET_INFLIGHT_FD for queues of {size} entries")
            }
            Self::SetInflightFd => write!(f, "SET_INFLIGHT_FD"),
            Self::SetVringNum { queue, size } => write!(
                f,
                "SET_VRING_NUM for queue {queue} of {size} entries \
                 (fewer can be set: --queue-size)"
            ),
            Self::SetVringAddr { queue } => write!(f, "SET_VRING_ADDR for queue {queue}"),
            Self::SetVringBase { queue } => write!(f, "SET_VRING_BASE for queue {queue}"),
            Self::SetVringCall { queue } => write!(f, "SET_VRING_CALL for queue {queue}"),
            Self::SetVringKick { queue } => write!(f, "SET_VRING_KICK for queue {queue}"),
            Self::SetVringEnable { queue } => write!(f, "SET_VRING_ENABLE for queue {queue}"),
            Self::GetVringBase { queue } => write!(f, "GET_VRING_BASE for queue {queue}"),
        }
    }
}

/// A step with the device process failed.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The connection cannot be set up on our side.
    #[error("cannot set up the connection to the device process")]
    Setup(#[from] io::Error),
    /// The device process closed the connection instead of a reply.
    #[error("the device process closed the connection at {step}")]
    Closed {
        /// What it was asked.
        step: Step,
        /// Of the socket.
        source: VhostUserError,
    },
    /// The device process is there and says nothing.
    #[error("the device process did not answer {step} within {} s", limit.as_secs_f32())]
    NoAnswer {
        /// What it was asked.
        step: Step,
        /// How long it had.
        limit: Duration,
    },
    /// This program is to end, and does not begin that any more.
    #[error("the device process is not asked for {step} any more: this program ends")]
    Interrupted {
        /// What it was to be asked.
        step: Step,
    },
    /// The device process said no.
    #[error("the device process refused {step}")]
    Refused {
        /// What it was asked.
        step: Step,
    },
    /// A file in the reply could keep its reader waiting for ever.
    #[error(
        "the device process's reply to {step} makes no sense: its file is not in memory (memfd, \
         tmpfs or hugetlbfs)"
    )]
    NotInMemory {
        /// What it was asked.
        step: Step,
    },
    /// The reply is not one of the protocol.
    #[error("the device process's reply to {step} makes no sense")]
    BadReply {
        /// What it was asked.
        step: Step,
        /// What is wrong with it.
        source: vhost::Error,
    },
}

impl BackendError {
    /// The variant for what the `vhost` crate returned from `step`.
    pub(super) fn from_step(step: Step, error: vhost::Error) -> Self {
        use VhostUserError::*;
        match error {
            vhost::Error::VhostUserProtocol(
                source @ (Disconnected | PartialMessage | SocketBroken(_) | SocketError(_)),
            ) => Self::Closed { step, source },
            vhost::Error::VhostUserProtocol(BackendInternalError) => Self::Refused { step },
            source => Self::BadReply { step, source },
        }
    }

    /// Whether the device process has gone, so that another one may come; so has one that does not
    /// answer, for its connection is closed then.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::NoAnswer { .. })
    }

    /// Whether the device process is there and says nothing.
    pub fn is_no_answer(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }

    /// Whether the device process has answered, and does not do as it was asked.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::BadReply { .. } | Self::NotInMemory { .. }
        )
    }
}
