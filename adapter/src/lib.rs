// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The adapter between a virtio-loopback device of this kernel and a vhost-user device process.
//!
//! It carries orders and never touches data: the kernel and the device process share the queues and
//! two eventfds for each. Imports run one way: `main` > `run` > `event_loop` > `session` >
//! {`driver`, `backend`, `memory`, `inflight`};
//! `driver` and `backend` do not know each other.

#![deny(unsafe_code)]

pub mod args;
pub mod backend;
pub mod command_socket;
pub mod completions;
pub mod destroy;
pub mod device_answer;
pub mod device_process;
pub mod device_type;
pub mod doctor;
pub mod driver;
pub mod event_loop;
pub mod inflight;
pub mod inspect;
pub mod journal;
pub mod memory;
pub mod news;
pub mod readiness;
pub mod run;
pub mod session;
pub mod shortage;
pub mod signals;
pub mod unix_socket;
pub mod watch;
