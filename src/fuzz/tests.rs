// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The corpora, without a fuzzer: what real sessions said, and every input that ever brought a fault
//! to light.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Runs each file of a corpus; there has to be one.
fn walk(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    let mut paths: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    for path in paths {
        let input = fs::read(&path).unwrap();
        // Shown only where the test fails: the last one is the one.
        println!("{}", path.display());
        target(&input);
        // Cut short, which is what a dying peer says.
        for length in [0, input.len() / 2, input.len().saturating_sub(1)] {
            println!("its first {length} bytes");
            target(&input[..length]);
        }
    }
}

#[test]
fn control() {
    walk("control", super::control);
}

#[test]
fn transfer() {
    walk("transfer", super::transfer);
}

#[test]
fn events() {
    walk("events", super::events);
}

#[test]
fn vhost_user_device() {
    walk("vhost_user_device", super::vhost_user_device);
}

/// A predecessor has taken a message of queue 2 and left it there.
#[test]
fn what_is_in_flight_is_written_down_and_taken_up() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/vhost_user_device");
    let input = fs::read(folder.join("inflight")).unwrap();
    let areas = super::frontend::serve(&input).unwrap();
    let [area] = &areas[..] else {
        panic!("{} areas", areas.len());
    };
    // Of queues of 1024 entries; see `inflight.rs`.
    let header = |queue: u64| {
        let mut bytes = [0; 8];
        let at = queue * (16 + 1024 * 16 + 48) + 8;
        area.read_exact_at(&mut bytes, at).unwrap();
        u64::from_le_bytes(bytes)
    };
    let begun = 1 | 1024 << 16;
    for queue in [0, 1, 3] {
        assert_eq!(header(queue), begun, "queue {queue} begins anew");
    }
    // The one that had been taken may have been given back by now.
    let again = header(2);
    let last = 1 << 32;
    assert!(
        [0, 1 << 48].contains(&(again ^ (begun | last))),
        "{again:x}"
    );
}

#[test]
fn wav() {
    walk("wav", super::wav);
}

#[test]
fn card_file() {
    walk("card_file", super::card_file);
}

#[test]
fn command_socket() {
    walk("command_socket", super::command_socket);
}

/// The fuzz targets are built of the program's sources, with dependencies of their own.
#[test]
fn the_targets_have_the_dependencies_of_the_program() {
    let dependencies = |path: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let table: toml::Table = toml::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        table["dependencies"].as_table().unwrap().clone()
    };
    let targets = dependencies("fuzz/Cargo.toml");
    for (name, wanted) in dependencies("Cargo.toml") {
        let version = |entry: &toml::Value| entry.get("version").unwrap_or(entry).clone();
        let optional = wanted.get("optional").is_some();
        let found = targets.get(&name).map(version);
        assert!(
            optional || found == Some(version(&wanted)),
            "fuzz/Cargo.toml: {name}"
        );
    }
}
