// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command line.

#[path = "args/pipewire.rs"]
mod pipewire;

use std::path::PathBuf;

use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::cpus::{Cpus, parse_cpus};
use crate::pcm_format::{Format, parse_channels, parse_format, parse_rate};
use crate::sandbox::Part;
use pipewire::PipeWireOptions;

const EXAMPLES: &str = "\
Examples, with a folder for the card's sockets and nothing else (mkdir /run/music):
  Play to the first sound card and capture from it:
    vhost-user-sound --socket-path /run/music/device.sock --host alsa \\
        --playback-device hw:0,0 --capture-device hw:0,0

  Record what is played, and play a recording as microphone:
    vhost-user-sound --socket-path /run/test/device.sock --host file \\
        --playback-file out.wav --capture-file in.wav

  What is played is captured:
    vhost-user-sound --socket-path /run/loop/device.sock --host loop

  Two PCM devices, each on a sound card of its own:
    vhost-user-sound --socket-path /run/two/device.sock --host alsa \\
        --playback-device hw:0,0 --playback-device hw:1,0

  Play into a GStreamer pipeline:
    vhost-user-sound --socket-path /run/music/device.sock --host gstreamer \\
        --playback-pipeline 'audioconvert ! autoaudiosink'

  A card whose sound goes through PipeWire, as navigation:
    vhost-user-sound --socket-path $XDG_RUNTIME_DIR/navi/device.sock \\
        --host pipewire --role Navigation

  A card from a file; how it would look:
    vhost-user-sound --socket-path /run/studio/device.sock --card studio.toml
    vhost-user-sound --check --card studio.toml

  A running device that takes commands; what a user says to it:
    vhost-user-sound --socket-path /run/music/device.sock --card studio.toml \\
        --command-socket /run/music/commands
    vhost-user-sound tell /run/music/commands jack headphone unplugged
    vhost-user-sound tell /run/music/commands status

Log: warnings and errors by default; -v for streams, -vv for everything, or RUST_LOG.";

/// A virtio sound device in a process of its own, served over vhost-user.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(disable_help_subcommand = true)]
#[command(group = ArgGroup::new("transport").required(true)
    .args(["socket_path", "fd", "socket_activation", "check", "print_capabilities"]))]
pub struct Args {
    /// What to do instead of being a device.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Listen here for one frontend at a time. A frontend that goes is not heard: the next one goes
    /// on where it was.
    #[arg(long, value_name = "PATH")]
    pub socket_path: Option<PathBuf>,

    /// Serve this connected socket, inherited from the parent process, and end with it.
    #[arg(long, value_name = "FD")]
    pub fd: Option<i32>,

    /// Serve one frontend at a time on the socket that a service manager has handed over (LISTEN_FDS);
    /// a second one takes commands, as that of --command-socket does. The program ends when the
    /// frontend has gone and no driver uses the card: it is started again for the next one.
    #[arg(long)]
    pub socket_activation: bool,

    /// Serve in a second process, and replace that at once where a signal ends it: whoever plays hears a
    /// hole of some milliseconds, and a service manager need not start the program again, which takes
    /// longer than ALSA waits.
    #[arg(long, conflicts_with_all = ["fd", "check"])]
    pub respawn: bool,

    /// Listen here for commands of the user who runs this program, while the card is served: what
    /// `vhost-user-sound tell` says, or one JSON object a line. A service manager's socket
    /// (--socket-activation) is open to whom its unit says: in systemd's system units, to the group
    /// virtio-loopback. See COMMANDS in the manual page.
    #[arg(
        long,
        value_name = "PATH",
        env = "VHOST_USER_COMMAND_SOCKET",
        hide_env_values = true
    )]
    pub command_socket: Option<PathBuf>,

    /// Print the card as its driver would find it, and end.
    #[arg(long)]
    pub check: bool,

    /// With --check: as one line of JSON.
    #[arg(long, requires = "check")]
    pub json: bool,

    /// Print what this program can do as JSON (vhost-user backend conventions) and end.
    #[arg(long)]
    pub print_capabilities: bool,

    /// The card's description, a TOML file. See CARD FILES in the manual page.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["host", "playback_device",
        "capture_device", "playback_file", "capture_file", "playback_pipeline", "capture_pipeline", "devices", "substreams", "formats",
        "rates", "channels", "polling", "controls", "role", "node_name", "latency", "property",
        "target", "on_cork"])]
    pub card: Option<PathBuf>,

    /// Where sound goes to and comes from.
    #[arg(long, value_enum, default_value_t = HostKind::Null)]
    pub host: HostKind,

    /// alsa: the PCM to play on, such as hw:0,0. Given again, the next PCM device of the card plays
    /// there.
    #[arg(long, value_name = "PCM")]
    pub playback_device: Vec<String>,

    /// alsa: the PCM to capture from, such as hw:0,0. Given again, the next PCM device of the card
    /// captures there.
    #[arg(long, value_name = "PCM")]
    pub capture_device: Vec<String>,

    /// file: the WAV file that playback is written to. Given again, the next PCM device of the card
    /// writes there.
    #[arg(long, value_name = "WAV")]
    pub playback_file: Vec<PathBuf>,

    /// file: the WAV file that is captured. Given again, the next PCM device of the card captures
    /// that.
    #[arg(long, value_name = "WAV")]
    pub capture_file: Vec<PathBuf>,

    /// gstreamer: the pipeline that is played into, without its source, such as
    /// "audioconvert ! autoaudiosink". Given again, the next PCM device of the card plays there.
    #[arg(long, value_name = "PIPELINE")]
    pub playback_pipeline: Vec<String>,

    /// gstreamer: the pipeline that is captured, without its sink, such as
    /// "audiotestsrc ! audioconvert". Given again, the next PCM device of the card captures that.
    #[arg(long, value_name = "PIPELINE")]
    pub capture_pipeline: Vec<String>,

    /// Options of PipeWire.
    #[command(flatten)]
    pub pipewire: PipeWireOptions,

    /// null, loop, pipewire: how many PCM devices the card has; each plays and captures.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub devices: u32,

    /// How many substreams each PCM device has: so many applications can use it at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub substreams: u32,

    /// Offer only these sample formats (a captured file is offered as it is).
    #[arg(long, value_name = "FORMAT,...", value_delimiter = ',', value_parser = parse_format)]
    pub formats: Vec<Format>,

    /// Offer only these frame rates.
    #[arg(long, value_name = "HZ,...", value_delimiter = ',', value_parser = parse_rate)]
    pub rates: Vec<u32>,

    /// Offer only these numbers of channels, as N or MIN-MAX (1 to 8).
    #[arg(long, value_name = "N", value_parser = parse_channels)]
    pub channels: Option<(u8, u8)>,

    /// Let drivers leave it to this program to look for sound (MSG_POLLING): they never kick then, also
    /// not before a stream starts or after it has run dry, when looking costs 50 wake-ups a second.
    #[arg(long)]
    pub polling: bool,

    /// The control elements of the card.
    #[arg(long, value_enum, default_value_t = Controls::Software)]
    pub controls: Controls,

    /// Run on these CPUs alone, such as 0-1,3. Without this, where the parent process says
    /// (taskset, CPUAffinity= of a unit).
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    pub cpus: Option<Cpus>,

    /// The audio thread's real-time priority (SCHED_FIFO), 1 to 99, with memory that is not swapped;
    /// 0: neither. Without this, 50, or what the whole process is given by its parent (chrt,
    /// CPUSchedulingPolicy= of a unit).
    #[arg(long, value_name = "N", alias = "realtime-priority", value_parser = clap::value_parser!(u8).range(0..=99))]
    pub rt_priority: Option<u8>,

    /// Leave the sandbox out, or these parts of it: what this program needs no more once it is set up, it
    /// gives up. See SANDBOX in the manual page.
    #[arg(long, value_name = "PART,...", value_enum, value_delimiter = ',', num_args = 0..,
        require_equals = true, default_missing_value = "all")]
    pub no_sandbox: Vec<Part>,

    /// Log more; may be repeated.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What the program does instead of being a device.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say something to a running device: plug jacks, ask how it is
    Tell(Tell),
    /// Print a script that completes this program's command line in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What is said to a running device.
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub struct Tell {
    /// The device's --command-socket
    #[arg(value_name = "PATH")]
    pub socket: PathBuf,

    /// Print the device's answer as JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// What to say.
    #[command(subcommand)]
    pub what: What,
}

/// What is said to a running device.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Plug something into a jack of the virtual card, or pull it out
    ///
    /// A jack that follows an element of the real card goes with its next change.
    Jack {
        /// Number of the jack, or its kind if it is the only one of it, such as headphone
        #[arg(value_name = "JACK")]
        jack: String,

        /// Its state from now on
        #[arg(value_name = "STATE")]
        state: JackState,
    },
    /// List the jacks and their states
    Jacks,
    /// Tell whether a driver is there, and how streams and jacks are
    Status,
}

/// Whether something is plugged into a jack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JackState {
    /// Something is.
    Plugged,
    /// Nothing is.
    Unplugged,
}

impl JackState {
    /// As a boolean.
    pub fn is_plugged(self) -> bool {
        self == Self::Plugged
    }
}

/// The kinds of host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HostKind {
    /// Plays nothing and captures silence.
    Null,
    /// WAV files.
    File,
    /// What is played is captured.
    Loop,
    /// An ALSA PCM.
    Alsa,
    /// GStreamer pipelines.
    #[value(name = "gstreamer")]
    GStreamer,
    /// The graph of a PipeWire server.
    #[value(name = "pipewire")]
    PipeWire,
}

/// The control elements of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Controls {
    /// Volume and mute for each direction, done by this program.
    Software,
    /// None.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm_format;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn lists_and_ranges_are_understood() {
        let line = [
            "x",
            "--fd",
            "3",
            "--formats",
            "s16,S24_3LE",
            "--rates=8000,48000",
        ];
        let args = Args::try_parse_from(line).unwrap();
        assert_eq!(args.formats, [pcm_format::S16, pcm_format::S24_3]);
        assert_eq!((args.rates, args.channels), (vec![8000, 48_000], None));
        assert_eq!(parse_channels("2"), Ok((2, 2)));
        for wrong in ["0", "9", "2-1", "1-9", "-", "x", "1-2-3"] {
            assert!(parse_channels(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_running_device_is_told_without_a_transport() {
        let line = ["x", "tell", "/run/c", "jack", "headphone", "unplugged"];
        let args = Args::try_parse_from(line).unwrap();
        let Some(Command::Tell(tell)) = args.command else {
            panic!("no command");
        };
        assert_eq!(tell.socket, PathBuf::from("/run/c"));
        assert!(!tell.json && matches!(tell.what, What::Jack { .. }));
        for wrong in [
            &["x", "tell"][..],
            &["x", "tell", "/run/c"],
            &["x", "tell", "/run/c", "jack", "headphone", "out"],
            &["x", "--fd", "3", "tell", "/run/c", "status"],
        ] {
            assert!(Args::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn one_transport_is_needed() {
        assert!(Args::try_parse_from(["x"]).is_err());
        assert!(Args::try_parse_from(["x", "--fd", "3", "--socket-path", "s"]).is_err());
    }
}
