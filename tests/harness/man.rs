// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Writes the man pages of `vhost-user-sound` and its subcommands to a folder:
//! `cargo run --example vhost-user-sound-man -- FOLDER`.

// Of the program, only its command line is used.
#![allow(dead_code)]

#[path = "../../src/args.rs"]
mod args;
#[path = "../../src/cpus.rs"]
mod cpus;
#[path = "../../src/graph_node.rs"]
mod graph_node;
#[path = "../../src/sandbox/part.rs"]
mod part;
#[path = "../../src/pcm_format.rs"]
mod pcm_format;
#[path = "../../src/role.rs"]
mod role;
mod sandbox {
    pub use crate::part::Part;
}

use std::fs::File;
use std::io::{Error, Write};
use std::path::PathBuf;

use clap::CommandFactory;

/// The section on commands to a running device.
const COMMANDS: &str = include_str!("../../src/command/manual.roff");
/// The section on roles.
const ROLES: &str = include_str!("../../src/role/manual.roff");
/// The section on what the program gives up.
const SANDBOX: &str = include_str!("../../src/sandbox/manual.roff");
/// The section on card files, and the file that it ends with.
const CARD_FILES: &str = include_str!("../../src/card_file/manual.roff");
const EXAMPLE: &str = include_str!("../../examples/cards/studio.toml");

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| Error::other("usage: vhost-user-sound-man FOLDER"))?;
    std::fs::create_dir_all(&folder)?;
    clap_mangen::generate_to(args::Args::command(), &folder)?;
    // The program's own page tells more than its --help.
    let page = folder.join("vhost-user-sound.1");
    let mut page = File::options().append(true).open(page)?;
    write!(
        page,
        "{COMMANDS}{SANDBOX}{ROLES}{CARD_FILES}.PP\n.nf\n{}.fi\n",
        literal(EXAMPLE)
    )
}

/// Text that the formatter leaves as it is.
fn literal(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.contains("SPDX"));
    let escaped = lines.map(|line| line.replace('\\', "\\e").replace('-', "\\-"));
    // A line that starts with a dot or a quote would be an order.
    escaped.map(|line| format!("\\&{line}\n")).collect()
}
