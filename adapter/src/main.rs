// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The command `virtio-loopback`.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use env_logger::Env;
use virtio_loopback::args::{Cli, Command};
use virtio_loopback::destroy::{Destroyed, destroy};
use virtio_loopback::{device_process, inspect, run};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    env_logger::Builder::from_env(Env::default().default_filter_or("info"))
        .format(|out, record| {
            let level = record.level().as_str().to_lowercase();
            writeln!(out, "virtio-loopback: {level}: {}", record.args())
        })
        .init();
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Run(args) => Ok(run::run(&args.into())?),
        Command::List(output) => {
            let reports = inspect::list()?;
            let text = || inspect::list_table(&reports);
            print(if output.json {
                serde_json::to_string_pretty(&reports)?
            } else {
                text()
            })
        }
        Command::Status(args) => {
            let report = inspect::status(&args.name)?;
            let text = || inspect::status_table(&report);
            print(if args.output.json {
                serde_json::to_string_pretty(&report)?
            } else {
                text()
            })
        }
        Command::Destroy(args) => match destroy(&args.name)? {
            Destroyed::Gone => Ok(()),
            Destroyed::StillOpen => Err(format!(
                "an application still has {} open; the device goes when that closes it",
                args.name
            )
            .into()),
        },
        Command::DeviceProcess(args) => {
            Ok(device_process::become_command(args.parent, &args.command)?)
        }
    }
}

fn print(text: String) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// An error and what caused it, as one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
