// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The command `virtio-loopback`.

#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use env_logger::Env;
use serde::Serialize;
use serde_json::json;
use virtio_loopback::args::{Cli, Command, OutputArgs, StatusArgs};
use virtio_loopback::completions::completions;
use virtio_loopback::destroy::{DESTROY_TIME, Destroyed, destroy};
use virtio_loopback::doctor::{Machine, Verdict};
use virtio_loopback::{device_process, doctor, inspect, journal, run, watch};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.command.json());
    match dispatch(cli.command) {
        Ok(status) => status,
        Err(error) => {
            log::error!("{}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// To standard error: lines for people or a service manager's journal, or JSON objects for programs.
fn start_log(json: bool) {
    let journal = journal::is_there();
    env_logger::Builder::from_env(Env::default().default_filter_or("info"))
        .format(move |out, record| {
            if journal && !json {
                return journal::write(out, record);
            }
            let level = record.level().as_str().to_lowercase();
            let message = record.args().to_string();
            if json {
                writeln!(out, "{}", json!({ "level": level, "message": message }))
            } else {
                writeln!(out, "virtio-loopback: {level}: {message}")
            }
        })
        .init();
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(&args.into())?,
        Command::List(output) => {
            let reports = inspect::list()?;
            print_or_json(&output, &reports, || inspect::list_table(&reports))?;
        }
        Command::Status(args) => status(&args)?,
        Command::Doctor(output) => return examine(&output),
        Command::Destroy(args) => match destroy(&args.name, Instant::now() + DESTROY_TIME)? {
            Destroyed::Gone if args.output.json => {
                let name = args.name.as_str();
                print(&json!({ "name": name, "destroyed": true }).to_string())?;
            }
            Destroyed::Gone => {}
            Destroyed::StillOpen => {
                let text = "open; the device goes when that closes it";
                return Err(format!("an application still has {} {text}", args.name).into());
            }
        },
        Command::Completions(args) => print(completions(args.shell).trim_end())?,
        Command::DeviceProcess(args) => {
            device_process::become_command(args.parent, &args.command)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn examine(output: &OutputArgs) -> Result<ExitCode> {
    let findings = doctor::examine(&Machine::this());
    let is_root = nix::unistd::geteuid().is_root();
    let colours = watch::look_of_output().colours;
    print_or_json(output, &findings, || {
        doctor::report(&findings, is_root, colours)
    })?;
    Ok(match doctor::worst(&findings) {
        Verdict::Wrong => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

fn status(args: &StatusArgs) -> Result<()> {
    let StatusArgs { name, output, .. } = args;
    if let Some(period) = args.watch {
        return Ok(watch::watch(name.as_ref(), period, output.json)?);
    }
    let reports = inspect::status(name.as_ref())?;
    match (&reports[..], name) {
        ([report], Some(_)) => print_or_json(output, report, || inspect::status_table(report)),
        _ => print_or_json(output, &reports, || {
            watch::text(&reports, watch::look_of_output())
        }),
    }
}

fn print_or_json(
    output: &OutputArgs,
    value: &impl Serialize,
    text: impl FnOnce() -> String,
) -> Result<()> {
    match output.json {
        true => print(&inspect::printable_json(&serde_json::to_string_pretty(
            value,
        )?)),
        false => print(&text()),
    }
}

fn print(text: &str) -> Result<()> {
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
