// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The machine that is looked at: files below a root folder, which a test can make as it likes.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Below a prefix such as /usr: where this project's files to copy are, if it is installed.
const SHARES: &[&str] = &[
    "share/doc/virtio-loopback",
    "share/doc/virtio-loopback/examples",
];
/// Where the Debian package alone has its udev rule: `make install` puts it below /etc.
const PACKAGE: &str = "/usr/lib/udev/rules.d/60-virtio-loopback.rules";

/// A machine, and the user who asks.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
    home: Option<String>,
    shares: Vec<String>,
}

/// A configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Configuration {
    /// Where it is.
    pub(super) path: String,
    /// What is in it, without its comments.
    pub(super) text: String,
}

impl Machine {
    /// The one that this program runs on.
    pub fn this() -> Self {
        let program = env::current_exe().ok();
        let prefix = program
            .as_deref()
            .and_then(Path::parent)
            .and_then(Path::parent);
        let prefix = prefix.and_then(Path::to_str).unwrap_or("/usr");
        let below = |prefix: &str| {
            let of_share = |share: &&str| format!("{prefix}/{share}");
            SHARES.iter().map(of_share).collect::<Vec<_>>()
        };
        let prefixes = [prefix, "/usr/local", "/usr"];
        Self {
            root: "/".into(),
            home: env::var("HOME").ok().filter(|home| home.starts_with('/')),
            shares: prefixes.into_iter().flat_map(below).collect(),
        }
    }

    /// The folder that stands for "/".
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The user's configuration in `folder` of ~/.config, if there is a home.
    pub(super) fn of_user(&self, folder: &str) -> Option<String> {
        Some(format!("{}/.config/{folder}", self.home.as_ref()?))
    }

    /// A path of the machine, as this program can use it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file, without white space at its ends.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// Whether something is there.
    pub(super) fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Mode and group of a file.
    pub(super) fn mode_and_group(&self, path: &str) -> Option<(u32, u32)> {
        let metadata = fs::metadata(self.path(path)).ok()?;
        Some((metadata.mode() & 0o7777, metadata.gid()))
    }

    /// What is in a folder, in order; nothing where it cannot be read.
    pub(super) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder))
            .into_iter()
            .flatten()
            .flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    /// What a link points to.
    pub(super) fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        target.to_str().map(str::to_owned)
    }

    /// The configuration files of `folders` whose names end so. A file of an earlier folder hides
    /// those of its name in later ones, as it does for those who read them.
    pub(super) fn configuration<S: AsRef<str>>(
        &self,
        folders: &[S],
        suffix: &str,
    ) -> Vec<Configuration> {
        let mut files = BTreeMap::new();
        for folder in folders.iter().map(AsRef::as_ref) {
            let names = self.names(folder).into_iter();
            for name in names.filter(|name| name.ends_with(suffix)) {
                let path = format!("{folder}/{name}");
                files.entry(name).or_insert(path);
            }
        }
        let read = |path: String| {
            let text = without_comments(&self.text(&path)?);
            Some(Configuration { path, text })
        };
        files.into_values().filter_map(read).collect()
    }

    /// The command that installs this project, again if need be.
    pub(super) fn install(&self) -> &'static str {
        match self.exists(PACKAGE) {
            true => "apt-get install --reinstall virtio-loopback",
            false => "make install   # where virtio-loopback's sources are",
        }
    }

    /// The command that puts one of this project's files in place: a copy where it is installed.
    pub(super) fn copy(&self, file: &str, target: &str) -> String {
        let mut paths = self.shares.iter().map(|share| format!("{share}/{file}"));
        match paths.find(|path| self.exists(path)) {
            Some(path) => format!("install -Dm644 {path} {target}"),
            None => self.install().into(),
        }
    }
}

/// Without lines that are comments, and without Lua's comments of several lines.
fn without_comments(text: &str) -> String {
    let mut parts = text.split("--[[");
    let first = parts.next().unwrap_or_default();
    let behind = parts.filter_map(|part| part.split_once("]]"));
    let text: String = [first]
        .into_iter()
        .chain(behind.map(|(_, rest)| rest))
        .collect();
    let comment = |line: &&str| {
        let line = line.trim_start();
        line.starts_with('#') || line.starts_with("--")
    };
    let lines: Vec<_> = text.lines().filter(|line| !comment(line)).collect();
    lines.join("\n")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A machine in a temporary folder.
    pub(in super::super) struct Faked {
        folder: tempfile::TempDir,
    }

    impl Faked {
        pub(in super::super) fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { folder }
        }

        /// Puts a file there.
        pub(in super::super) fn put(&self, path: &str, text: &str) -> &Self {
            let path = self.machine().path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        /// Puts a folder there.
        pub(in super::super) fn make(&self, path: &str) -> &Self {
            fs::create_dir_all(self.machine().path(path)).unwrap();
            self
        }

        /// Puts a link there.
        pub(in super::super) fn link(&self, path: &str, target: &str) -> &Self {
            let path = self.machine().path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
            self
        }

        /// Takes something away.
        pub(in super::super) fn remove(&self, path: &str) -> &Self {
            let path = self.machine().path(path);
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
            self
        }

        pub(in super::super) fn machine(&self) -> Machine {
            Machine {
                root: self.folder.path().to_owned(),
                home: Some("/users/ann".into()),
                shares: vec!["/usr/share/doc/virtio-loopback".into()],
            }
        }
    }

    #[test]
    fn an_earlier_folder_hides_files_of_later_ones() {
        let faked = Faked::new();
        faked
            .put("etc/udev/rules.d/60-a.rules", "")
            .put("lib/udev/rules.d/60-a.rules", "hidden");
        faked
            .put("lib/udev/rules.d/50-b.rules", "# comment\nrule\n-- lua\n")
            .put("lib/udev/rules.d/README", "no");
        let folders = ["/etc/udev/rules.d", "/absent", "/lib/udev/rules.d"];
        let files = faked.machine().configuration(&folders, ".rules");
        let expected = [
            ("/lib/udev/rules.d/50-b.rules", "rule"),
            ("/etc/udev/rules.d/60-a.rules", ""),
        ];
        let expected = expected.map(|(path, text)| Configuration {
            path: path.into(),
            text: text.into(),
        });
        assert_eq!(files, expected);
    }

    #[test]
    fn comments_are_no_configuration() {
        assert_eq!(without_comments("a\n # b\n-- c\nd"), "a\nd");
        assert_eq!(without_comments("a\n--[[ b\nc ]]--\nd\n--[[ e"), "a\nd");
    }

    #[test]
    fn a_file_to_copy_is_looked_for() {
        let faked = Faked::new();
        let command = || faked.machine().copy("a.rules", "/etc/a.rules");
        assert!(command().starts_with("make install"));
        faked.put("usr/lib/udev/rules.d/60-virtio-loopback.rules", "");
        assert_eq!(command(), "apt-get install --reinstall virtio-loopback");
        faked.put("usr/share/doc/virtio-loopback/a.rules", "");
        assert_eq!(
            command(),
            "install -Dm644 /usr/share/doc/virtio-loopback/a.rules /etc/a.rules"
        );
    }
}
