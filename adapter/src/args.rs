// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::device_type::{DeviceType, names};
use crate::driver::{DeviceName, uapi};
use crate::run::{DeviceProcessAt, RunOptions};
use crate::session::Overrides;

const ABOUT: &str = "\
Virtio devices for this very kernel, served by ordinary processes.

A loopback device looks like any virtio device to the drivers of this kernel: a sound device becomes \
an ALSA card. Its queues are served by a vhost-user device process, for example vhost-user-sound. \
This program connects the two; sound does not pass through it.";

const EXAMPLES: &str = "\
Examples:
  A card \"music\" whose device process is started and ended with this program:
    virtio-loopback run --name music -- vhost-user-sound --host null
  The same with a device process that listens on a socket:
    virtio-loopback run --name music --socket /run/music/device.sock
  One that is started, and has a guard, which replaces it quicker than a program starts:
    virtio-loopback run --name music --socket /run/music/device.sock -- \\
        vhost-user-sound --socket-path /run/music/device.sock --respawn --host null
  What is wrong, and how to mend it:
    virtio-loopback doctor
  See what exists, watch it, and remove it:
    virtio-loopback list
    virtio-loopback status music
    virtio-loopback status --watch
    virtio-loopback destroy music

Exit status:
  0  done, or ended by SIGTERM, SIGINT or SIGHUP
  1  failed; the reason is on standard error. doctor: something is wrong
  2  the command line is wrong

Environment:
  RUST_LOG  what is logged to standard error: error, warn, info (default), debug
  NO_COLOR  no colours on terminals

With --json, every command that has it says what it has to say, errors too, as JSON objects.";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "virtio-loopback", version, about = ABOUT, after_help = EXAMPLES)]
#[command(max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connect a kernel device to its device process, and serve it until SIGTERM, SIGINT or SIGHUP
    ///
    /// Creates the kernel device, or takes over the one of this name that nobody is attached to.
    /// The kernel device stays when this program ends: applications that have it open are not
    /// disturbed, and the next run goes on where this one ended. A device of this name that has been
    /// destroyed, and that an application still has open, is waited for.
    Run(RunArgs),
    /// List the loopback devices
    List(OutputArgs),
    /// Show how the loopback devices are, or one of them in detail
    ///
    /// Without NAME, a line for each stream of each device: state, role, level, rate, period,
    /// delay, xruns (holes in the sound), kicks (notifications by the driver) and restarts (takeovers
    /// of queues in use). What only the device process knows, it is asked on its command socket,
    /// /run/virtio-loopback/NAME.commands or the same below $XDG_RUNTIME_DIR, where run and the
    /// systemd units have it listen. With NAME, everything the kernel knows about the device.
    Status(StatusArgs),
    /// Check everything that must be right, and say what mends what is wrong
    ///
    /// Looks, in this order, at the kernel, the module, rights, the rules of udev and modprobe,
    /// WirePlumber, real-time limits, and each card with its device process. It changes nothing. A
    /// line is ok, warn (cards work, but not as well as they could), wrong (they do not), or n.a. (not
    /// applicable: it does not matter here). The exit status is 1 where something is wrong.
    Doctor(OutputArgs),
    /// Remove a loopback device from the kernel
    ///
    /// The device goes when the last application has closed it.
    Destroy(DestroyArgs),
    /// Print a script that completes this program's command line in a shell
    Completions(CompletionsArgs),
    /// Used by run to start COMMAND
    #[command(name = crate::device_process::SUBCOMMAND, hide = true)]
    DeviceProcess(DeviceProcessArgs),
}

impl Command {
    /// Whether messages are for programs, too.
    pub fn json(&self) -> bool {
        match self {
            Self::Run(args) => args.output.json,
            Self::List(output) | Self::Doctor(output) => output.json,
            Self::Status(args) => args.output.json,
            Self::Destroy(args) => args.output.json,
            Self::Completions(_) | Self::DeviceProcess(_) => false,
        }
    }
}

/// `run`
#[derive(Debug, Args)]
#[command(override_usage = "\
virtio-loopback run --name NAME [OPTIONS] --socket PATH
       virtio-loopback run --name NAME [OPTIONS] -- COMMAND [ARGUMENT]...
       virtio-loopback run --name NAME [OPTIONS] --socket PATH -- COMMAND [ARGUMENT]...")]
pub struct RunArgs {
    /// Name of the kernel device: at most 31 of A-Z a-z 0-9 _ -; its first 15 are the id of its
    /// ALSA card
    #[arg(long)]
    name: DeviceName,

    /// Type of the device
    #[arg(long, value_name = "TYPE", default_value = "sound", help = device_help())]
    device: DeviceType,

    /// The device process listens on this Unix socket. A socket that does not exist yet is waited
    /// for, ten seconds; a device process that goes later is waited for until another one listens
    #[arg(long, value_name = "PATH", required_unless_present = "command")]
    socket: Option<PathBuf>,

    /// Destroy the kernel device at the end
    #[arg(long)]
    ephemeral: bool,

    /// Number of queues [default: of the type, or as many as the device process offers]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(uapi::MAX_QUEUES)))]
    queues: Option<u32>,

    /// Longest size of each queue in entries: a power of two up to 1024 [default: of the type]
    #[arg(long, value_name = "N", value_parser = queue_size)]
    queue_size: Option<u32>,

    /// Bytes of the device's config space [default: of the type]
    #[arg(long, value_name = "BYTES")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=i64::from(uapi::MAX_CONFIG)))]
    config_size: Option<u32>,

    /// How to print.
    #[command(flatten)]
    output: LogArgs,

    /// Start the device process, with a connected socket: "{fd}" in its arguments becomes the
    /// number of the file descriptor; without any, --fd=N is appended. With --socket, it is to listen
    /// there instead. It is ended with this program, which gives it ten seconds, and kills it at a
    /// second SIGTERM or SIGINT; and it is started again when it dies, or is stopped by a signal: at once,
    /// but later and later where it dies again and again.
    /// VHOST_USER_COMMAND_SOCKET in its environment says where it may take commands
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl From<RunArgs> for RunOptions {
    fn from(args: RunArgs) -> Self {
        Self {
            name: args.name,
            device: args.device,
            overrides: Overrides {
                queues: args.queues,
                queue_size: args.queue_size,
                config_size: args.config_size,
            },
            process: match args.socket {
                Some(path) if args.command.is_empty() => DeviceProcessAt::Socket(path),
                socket => DeviceProcessAt::Command(args.command, socket),
            },
            ephemeral: args.ephemeral,
        }
    }
}

/// How to print.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

/// How to log.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Log JSON for programs, one object a line, to standard error
    #[arg(long)]
    pub json: bool,
}

/// `status`
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Name of the device [default: all devices]
    pub name: Option<DeviceName>,
    /// Show it again every SECONDS, in place on a terminal (q ends it), else as a table or, with
    /// --json, a line of JSON each time
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "0.5", value_parser = watch_period)]
    pub watch: Option<Duration>,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `destroy`
#[derive(Debug, Args)]
pub struct DestroyArgs {
    /// Name of the device
    pub name: DeviceName,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// The hidden subcommand that becomes COMMAND.
#[derive(Debug, Args)]
pub struct DeviceProcessArgs {
    /// Process id of the adapter.
    pub parent: u32,
    /// COMMAND.
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

fn device_help() -> String {
    format!("Type of the device: {}, or a virtio device id", names())
}

fn queue_size(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(size) if DeviceType::is_queue_size(size) => Ok(size),
        _ => Err(format!("not a power of two up to {}", uapi::MAX_QUEUE_SIZE)),
    }
}

/// Not so often that it would be work for the device process.
fn watch_period(text: &str) -> Result<Duration, String> {
    let wrong = || "not a number of seconds from 0.1 to 3600".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    match (0.1..=3600.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::device_type::DEVICE_TYPES;

    fn run(words: &str) -> Result<RunOptions, clap::Error> {
        let words = ["virtio-loopback", "run"]
            .into_iter()
            .chain(words.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            Command::Run(args) => Ok(args.into()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_lists_every_type_of_device() {
        let mut cli = Cli::command();
        let help = cli.find_subcommand_mut("run").unwrap().render_help();
        let help = help.to_string();
        let words: Vec<&str> = help.split([' ', ',', '\n']).collect();
        for row in DEVICE_TYPES {
            assert!(words.contains(&row.name), "{row}: {help}");
        }
    }

    #[test]
    fn the_device_process_is_at_a_socket_or_a_command() {
        let options = run("--name music --socket /run/x").unwrap();
        assert_eq!(options.process, DeviceProcessAt::Socket("/run/x".into()));
        assert_eq!((options.device.name, options.ephemeral), ("sound", false));
        let options = run("--name r --device rng --ephemeral -- dev --fd {fd} --json").unwrap();
        let command = ["dev", "--fd", "{fd}", "--json"]
            .map(OsString::from)
            .to_vec();
        assert_eq!(options.process, DeviceProcessAt::Command(command, None));
        assert_eq!((options.device.id, options.ephemeral), (4, true));
    }

    #[test]
    fn a_command_may_listen_on_a_socket() {
        let options = run("--name music --socket /run/x -- dev --socket-path /run/x").unwrap();
        let command = ["dev", "--socket-path", "/run/x"]
            .map(OsString::from)
            .to_vec();
        assert_eq!(
            options.process,
            DeviceProcessAt::Command(command, Some("/run/x".into()))
        );
    }

    #[test]
    fn one_of_them_is_needed() {
        assert!(run("--name music").is_err());
        assert!(run("--socket /run/x").is_err());
    }

    #[test]
    fn limits_are_those_of_the_kernel() {
        let with = |option: &str| run(&format!("--name n --socket s {option}"));
        let options = with("--queues 64 --queue-size 1024 --config-size 0").unwrap();
        let all = Overrides {
            queues: Some(64),
            queue_size: Some(1024),
            config_size: Some(0),
        };
        assert_eq!(options.overrides, all);
        let wrong = "--queues 0,--queues 65,--queue-size 3,--queue-size 0,--queue-size 2048,\
                     --config-size 4097,--device foo,--name a/b";
        for option in wrong.split(',') {
            assert!(with(option).is_err(), "{option}");
        }
    }

    #[test]
    fn a_watch_has_a_period_behind_an_equals_sign() {
        let status = |words: &str| {
            let words = ["virtio-loopback", "status"]
                .into_iter()
                .chain(words.split_whitespace());
            match Cli::try_parse_from(words)?.command {
                Command::Status(args) => Ok(args),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(status("").unwrap().watch, None);
        let args = status("--watch music").unwrap();
        assert_eq!(args.watch, Some(Duration::from_millis(500)));
        assert_eq!(args.name.unwrap().as_str(), "music");
        let args = status("--watch=2 --json").unwrap();
        assert_eq!(args.watch, Some(Duration::from_secs(2)));
        assert!(args.name.is_none() && args.output.json);
        for wrong in ["0", "0.05", "3601", "x", "-1", "NaN", "inf"] {
            let error: clap::Error = status(&format!("--watch={wrong}")).unwrap_err();
            assert!(
                error.to_string().contains("0.1 to 3600"),
                "{wrong}: {error}"
            );
        }
    }
}
