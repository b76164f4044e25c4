// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The options of `--host pipewire`.

use crate::graph_node::{Latency, OnCork, parse_latency, parse_name, parse_property};
use crate::role::{Role, parse_role};

/// How the card's streams show themselves in PipeWire's graph.
#[derive(Debug, Default, clap::Args)]
pub struct PipeWireOptions {
    /// pipewire: what the sound is for (media.role), such as Multimedia, Navigation, Communication or
    /// Emergency. The server's policy decides by it who plays, is ducked or waits. Without a role,
    /// the policy takes its own.
    #[arg(long, value_name = "ROLE", value_parser = parse_role)]
    pub role: Option<Role>,

    /// pipewire: the name of the card's node (node.name). Capture and further PCM devices get
    /// names made of it: NAME-capture, NAME-2.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub node_name: Option<String>,

    /// pipewire: the longest cycle that the graph may have while the card plays (node.latency), such
    /// as 256/48000; else the driver's period.
    #[arg(long, value_name = "FRAMES/RATE", value_parser = parse_latency)]
    pub latency: Option<Latency>,

    /// pipewire: one more property of the card's nodes. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_property)]
    pub property: Vec<(String, String)>,

    /// pipewire: play to this node, by its name or serial number, whatever a policy would do: roles
    /// have no effect then.
    #[arg(long, value_name = "NODE", value_parser = parse_name)]
    pub target: Option<String>,

    /// pipewire: what happens while the server lets the card wait, for one of a higher role or
    /// because there is nothing to play to. See ROLES in the manual page for the programs that hold
    /// suits.
    #[arg(long, value_enum, default_value_t = OnCork::Drain)]
    pub on_cork: OnCork,
}
