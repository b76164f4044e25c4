// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a card's hosts open later than at the start, and what their libraries do by themselves.

use std::path::{Path, PathBuf};

use crate::description::{Description, Stream, StreamHost};
use crate::wire::Direction;

/// Files of the system that hold no secrets, and that libraries read: their own parts and settings,
/// names of users, the time zone.
const SYSTEM: [&str; 9] = [
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/proc/sys/kernel",
];
/// What alsa-lib reads whenever a PCM is opened.
const ALSA: [&str; 4] = [
    "/etc/asound.conf",
    "/etc/alsa",
    "/var/lib/alsa",
    "/run/alsa",
];
/// The same in the user's home.
const ALSA_HOME: [&str; 2] = [".asoundrc", ".config/alsa"];
/// The same where these variables say so.
const ALSA_VARIABLES: [&str; 4] = [
    "ALSA_CONFIG_PATH",
    "ALSA_CONFIG_DIR",
    "ALSA_CONFIG_UCM",
    "ALSA_CONFIG_UCM2",
];
/// What the libraries of PipeWire read, when they start and with each new connection. They make use of
/// whatever is in there; nothing in it is secret, but for what landlock keeps of other processes.
const PIPEWIRE: [&str; 6] = [
    "/proc",
    "/sys/devices/system",
    "/etc/pipewire",
    "/etc/machine-id",
    "/etc/os-release",
    "/var/lib/dbus/machine-id",
];
const PIPEWIRE_HOME: [&str; 2] = [".config/pipewire", ".local/share/pipewire"];
const PIPEWIRE_VARIABLES: [&str; 5] = [
    "PIPEWIRE_CONFIG_DIR",
    "PIPEWIRE_MODULE_DIR",
    "PIPEWIRE_RUNTIME_DIR",
    "SPA_PLUGIN_DIR",
    "SPA_DATA_DIR",
];
/// Which CPUs there are, and which of them are online.
const CPUS: &str = "/sys/devices/system/cpu";
/// Why nothing can be taken from a process that has a pipeline.
pub const ANYTHING: &str = "a GStreamer pipeline does whatever its elements do";
/// Where real cards come and go.
const CARDS: &str = "/dev/snd";

/// What must go on working in the sandbox. Paths that do not exist are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files and folders that are read.
    pub read: Vec<PathBuf>,
    /// Folders of devices that are opened for all that they can do. They are made if they are not
    /// there and this process may do that.
    pub devices: Vec<PathBuf>,
    /// Folders in which files are made and written, and files that are written.
    pub write: Vec<PathBuf>,
    /// Folders in which sockets are made, and removed at the end.
    pub sockets: Vec<PathBuf>,
    /// Libraries may load others: memory becomes code.
    pub loads_code: bool,
    /// Whatever a user has described is to work: files and calls cannot be told beforehand.
    pub anything: bool,
    /// Libraries make real-time threads of their own.
    pub real_time_threads: bool,
    /// Connections are made to servers of this machine.
    pub connects: bool,
}

impl Needs {
    /// What the hosts, controls and jacks of this card need.
    pub fn of(description: &Description) -> Self {
        let mut needs = Self::default();
        for stream in &description.streams {
            needs.add_host(stream);
        }
        let controls = description.controls.iter();
        let mirrors = controls.filter_map(|control| control.mixer.as_ref());
        let jacks = description.jacks.iter();
        let followed = jacks.filter_map(|jack| jack.follow.as_ref());
        if mirrors.chain(followed).next().is_some() {
            needs.add_real_cards();
        }
        if description.process.cpus.is_some() {
            // A process that takes the place of another one looks there again.
            needs.read.push(PathBuf::from(CPUS));
        }
        needs
    }

    fn add_host(&mut self, stream: &Stream) {
        match &stream.host {
            StreamHost::Null | StreamHost::Loop(_) => {}
            StreamHost::File(path) => match stream.direction {
                Direction::Playback => self.add_recording(path),
                Direction::Capture => self.read.push(path.clone()),
            },
            StreamHost::Alsa(_) => self.add_real_cards(),
            StreamHost::PipeWire(_) => self.add_graph(),
            StreamHost::Pipeline(_) => self.anything = true,
        }
    }

    /// A socket that this process makes.
    pub fn add_socket(&mut self, path: &Path) {
        self.sockets.push(folder_of(path));
    }

    /// A WAV file and those of the next numbers; one that is a link lies somewhere else.
    fn add_recording(&mut self, path: &Path) {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let is_file = |path: &Path| path.metadata().map_or(true, |found| found.is_file());
        let is_link = path
            .symlink_metadata()
            .is_ok_and(|found| found.is_symlink());
        if is_link || is_file(path) {
            self.write.push(folder_of(path));
        }
        // Others lie beside a device.
        let place = if is_file(&real) {
            folder_of(&real)
        } else {
            real
        };
        self.write.push(place);
    }

    fn add_real_cards(&mut self) {
        self.add_library(&ALSA, &ALSA_HOME, &ALSA_VARIABLES);
        self.devices = vec![PathBuf::from(CARDS)];
    }

    fn add_graph(&mut self) {
        self.real_time_threads = true;
        self.connects = true;
        self.add_library(&PIPEWIRE, &PIPEWIRE_HOME, &PIPEWIRE_VARIABLES);
    }

    /// What a library reads: files, those in the user's home, and those that variables name.
    fn add_library(&mut self, files: &[&str], in_home: &[&str], variables: &[&str]) {
        self.loads_code = true;
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let in_home = in_home
            .iter()
            .filter_map(|name| Some(home.as_ref()?.join(name)));
        let variables = variables.iter().filter_map(std::env::var_os);
        self.read
            .extend(SYSTEM.iter().chain(files).map(PathBuf::from));
        self.read
            .extend(in_home.chain(variables.map(PathBuf::from)));
        self.read.sort();
        self.read.dedup();
    }
}

/// The folder in which the file is.
fn folder_of(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    folder.unwrap_or(Path::new(".")).to_owned()
}
