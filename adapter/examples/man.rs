// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Writes the man pages of `virtio-loopback` and its subcommands to a folder:
//! `cargo run -p virtio-loopback --example man -- FOLDER`.

use std::path::PathBuf;

use clap::CommandFactory;
use virtio_loopback::args::Cli;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| std::io::Error::other("usage: man FOLDER"))?;
    std::fs::create_dir_all(&folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}
