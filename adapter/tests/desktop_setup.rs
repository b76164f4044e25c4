// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! examples/desktop-setup: what it puts into a folder, and that it takes all of it away again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test, also where clippy.toml does not see it: outside of #[test] functions"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/desktop-setup");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
const HOME: &str = "/users/ann";

/// A desktop in a folder, with programs that do nothing.
struct Desktop {
    folder: tempfile::TempDir,
}

impl Desktop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("programs");
        fs::create_dir(&programs).unwrap();
        for program in ["wireplumber", "virtio-loopback", "vhost-user-sound"] {
            let path = programs.join(program);
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap();
        let programs = self.folder.path().join("programs");
        Command::new(SCRIPT)
            .arg("--root")
            .arg(self.root())
            .args(arguments)
            .env("HOME", HOME)
            .env("PATH", format!("{}:{path}", programs.display()))
            .output()
            .unwrap()
    }

    /// What it said, when it did what it should.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stdout).unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}{complaint}");
        assert_eq!(complaint, "");
        said
    }

    /// All files below the root, by their paths.
    fn files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(self.root()).unwrap().to_str().unwrap();
                    files.insert(format!("/{name}"), fs::read_to_string(&path).unwrap());
                }
            }
        }
        files
    }
}

fn example(path: &str) -> String {
    fs::read_to_string(Path::new(EXAMPLES).join(path)).unwrap()
}

#[test]
fn a_desktop_gets_its_cards_and_is_as_before_afterwards() {
    let desktop = Desktop::new();
    let said = desktop.done(&[]);
    let files = desktop.files();
    for card in ["music", "navigation", "phone"] {
        let path = format!("{HOME}/.config/virtio-loopback/{card}.toml");
        assert_eq!(files[&path], example(&format!("cards/{card}.toml")));
    }
    let hides = |path: &&String| path.contains("/.config/wireplumber/") && path.contains("hide");
    assert_eq!(files.keys().filter(hides).count(), 1, "{files:?}");
    let boot = "/etc/modules-load.d/virtio-loopback-desktop.conf";
    assert_eq!(files[boot], "virtio_loopback\nvirtio_snd\n");
    assert!(files["/etc/security/limits.d/virtio-loopback.conf"].contains("rtprio 95"));
    let order = [
        "usermod -aG virtio-loopback",
        "restart wireplumber",
        "enable virtio-loopback@music.service",
        "user restart virtio-loopback@music.service",
    ];
    let places = order.map(|word| said.find(word).unwrap_or_else(|| panic!("{word}: {said}")));
    assert!(places.is_sorted(), "{said}");

    let again = desktop.done(&[]);
    assert!(!again.contains("writing"), "{again}");
    assert_eq!(desktop.files(), files, "twice is once");

    desktop.done(&["--undo"]);
    assert_eq!(desktop.files(), BTreeMap::new());
    assert!(desktop.done(&["--undo"]).contains("nothing to undo"));
}

#[test]
fn a_dry_run_does_nothing() {
    let desktop = Desktop::new();
    let said = desktop.done(&["--dry-run", "--roles"]);
    assert_eq!(desktop.files(), BTreeMap::new());
    for word in [
        "would write: /users/ann/.config/virtio-loopback/phone.toml",
        "agl-roles",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    desktop.done(&[]);
    let files = desktop.files();
    let said = desktop.done(&["--dry-run", "--undo"]);
    assert!(said.contains("would remove: /etc/modules-load.d"), "{said}");
    assert_eq!(desktop.files(), files);
}

#[test]
fn what_somebody_else_has_put_there_stays() {
    let desktop = Desktop::new();
    let own = desktop
        .root()
        .join("users/ann/.config/virtio-loopback/music.toml");
    fs::create_dir_all(own.parent().unwrap()).unwrap();
    fs::write(&own, "# mine\n").unwrap();
    let said = desktop.done(&["--cards", "music,phone", "--roles"]);
    assert!(said.contains("left as it is: /users/ann/.config/virtio-loopback/music.toml"));
    assert_eq!(fs::read_to_string(&own).unwrap(), "# mine\n");
    assert!(!own.with_file_name("navigation.toml").exists());
    let paths: Vec<_> = desktop.files().into_keys().collect();
    assert!(
        paths.iter().any(|path| path.contains("agl-roles")),
        "{paths:?}"
    );
    desktop.done(&["--undo"]);
    assert_eq!(desktop.files().into_keys().count(), 1, "mine alone");
}

#[test]
fn a_mistake_is_named() {
    let desktop = Desktop::new();
    let fails = |arguments: &[&str], status: i32, says: &str| {
        let output = desktop.run(arguments);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(says), "{arguments:?}: {said}");
    };
    fails(&["--cards", "piano"], 1, "there is no card piano");
    fails(&["--card", "music"], 2, "usage");
    fs::remove_file(desktop.folder.path().join("programs/wireplumber")).unwrap();
    // Where the machine itself has one, nothing is missing.
    if !Path::new("/usr/bin/wireplumber").exists() {
        fails(&[], 1, "there is no WirePlumber here");
    }
    assert_eq!(desktop.files(), BTreeMap::new());
}
