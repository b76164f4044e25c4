// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Writes the man page of `vhost-user-sound` to a folder:
//! `cargo run --example vhost-user-sound-man -- FOLDER`.

// Of the program, only its command line is used.
#![allow(dead_code)]

#[path = "../../src/args.rs"]
mod args;
#[path = "../../src/pcm_format.rs"]
mod pcm_format;

use std::path::PathBuf;

use clap::CommandFactory;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder =
        folder.ok_or_else(|| std::io::Error::other("usage: vhost-user-sound-man FOLDER"))?;
    std::fs::create_dir_all(&folder)?;
    clap_mangen::generate_to(args::Args::command(), folder)
}
