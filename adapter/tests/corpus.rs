// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The corpus of the adapter's fuzz target, without a fuzzer: answers of real device processes, and
//! every input that ever brought a fault to light.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test ends at its first surprise"
)]

#[path = "../../fuzz/adapter.rs"]
mod target;

use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/vhost_user_adapter")
}

#[test]
fn an_area_for_what_is_in_flight_is_shared_and_shared_again() {
    let input = fs::read(folder().join("inflight")).unwrap();
    assert_eq!(target::areas(&input), 2);
}

#[test]
fn vhost_user_adapter() {
    let paths = fs::read_dir(folder()).unwrap();
    let mut paths: Vec<_> = paths.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let input = fs::read(&path).unwrap();
        // Shown only where the test fails: the last one is the one.
        println!("{}", path.display());
        for length in [
            input.len(),
            0,
            input.len() / 2,
            input.len().saturating_sub(1),
        ] {
            target::vhost_user_adapter(&input[..length]);
        }
    }
}
