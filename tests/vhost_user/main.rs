// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The sound device as its peers see it: the real process, a real vhost-user frontend on its socket
//! and, in shared memory, the queues of a driver that is polite, sloppy or hostile.
//!
//! Nothing here asserts a duration. Waits have a generous limit, which only a device that hangs
//! reaches.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at its first surprise"
)]

// The peers.
mod card;
mod changer;
mod device;
mod driver;
mod frontend;
#[path = "../../src/sandbox/tests/kernel.rs"]
mod kernel;
mod memory;
mod raw_frontend;
mod sound;
mod wav;

// What they show.
mod activation;
mod capture;
mod card_files;
mod changing_event_ring;
mod changing_rings;
mod command_line;
mod commands;
mod connections;
mod controls;
mod devices;
mod events;
mod formats;
#[cfg(feature = "pipewire")]
mod graph;
#[cfg(feature = "gstreamer")]
mod gstreamer;
mod hostile_chains;
mod hostile_control;
mod hostile_eventfds;
mod hostile_rings;
mod idle;
mod indirect;
mod information;
mod lifecycle;
mod loopback;
mod negotiation;
mod parameters;
mod playback;
mod process;
mod realtime;
mod reattach;
mod respawn;
mod sandbox;
mod several;
mod signals;
mod steady_state;
mod survival;
