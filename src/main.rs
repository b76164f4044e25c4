// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `vhost-user-sound`: a virtio sound device in a process of its own, served over vhost-user.

mod alarm;
mod area;
mod args;
mod audio;
mod audio_thread;
mod card;
mod card_file;
mod channel_map;
mod command;
mod companding;
mod completions;
mod control;
mod control_elements;
mod cpus;
mod description;
mod device;
mod eventfd;
mod events;
mod exchange;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gain;
mod graph_node;
mod inflight;
mod jack;
mod journal;
mod lifecycle;
mod log_limit;
mod memory;
mod message;
mod meter;
mod pcm;
mod pcm_format;
mod process;
mod realtime;
mod record;
mod report;
mod respawn;
mod ring;
mod role;
mod run;
mod sandbox;
mod session;
mod signals;
mod stream;
mod system;
mod time;
mod transfer;
mod unix_socket;
mod wire;

use std::error::Error;
use std::io::Write;

use clap::Parser;
use log::LevelFilter;
use log_limit::LogLimit;

fn main() -> ! {
    let args = args::Args::parse();
    let level = match args.verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Trace,
    };
    let journal = journal::is_there();
    let mut log = env_logger::Builder::new();
    if journal {
        log.format(journal::write);
    }
    log.filter_level(level)
        // It logs from the audio thread, at the mercy of the driver; this program counts instead.
        .filter_module("virtio_queue", LevelFilter::Off)
        .parse_default_env();
    let log = log.build();
    log::set_max_level(log.filter());
    // It is the first.
    let _ = log::set_boxed_logger(Box::new(LogLimit::new(log)));
    let result: Result<u8, Box<dyn Error>> = match &args.command {
        Some(args::Command::Tell(tell)) => done(command::client::tell(tell)),
        Some(args::Command::Completions { shell }) => done(completions::print(*shell)),
        None => run::run(&args).map_err(Box::from),
    };
    let status = match result {
        Ok(status) => status,
        Err(error) => {
            match journal {
                true => journal::write_error(&*error),
                false => eprintln!("vhost-user-sound: {error}"),
            }
            1
        }
    };
    let _ = std::io::stdout().flush();
    system::end(status)
}

fn done<E: Error + 'static>(result: Result<(), E>) -> Result<u8, Box<dyn Error>> {
    result.map(|()| 0).map_err(Box::from)
}
