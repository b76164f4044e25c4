// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the process has given up by the time it serves, as the system shows it, and the option that
//! keeps it.

use std::fs;

use crate::card::Card;
use crate::device::{Device, program};

/// CAP_IPC_LOCK, the one that may be left: memory stays locked only for who has it.
const LOCKS: u64 = 1 << 14;

/// A line of every thread's status.
fn of_threads(device: &Device, name: &str) -> Vec<u64> {
    let threads = fs::read_dir(format!("/proc/{}/task", device.pid())).unwrap();
    let base = if name.starts_with("Cap") { 16 } else { 10 };
    let read = |thread: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        u64::from_str_radix(line.unwrap().trim_start_matches(':').trim(), base).unwrap()
    };
    threads.map(read).collect()
}

fn serving(device: &Device) -> Card {
    let mut card = Card::attach(device);
    card.pcm_infos(2);
    card
}

#[test]
fn every_thread_has_given_up_what_it_does_not_need() {
    let device = Device::start(&["--host", "loop", "--command-socket", "commands"]);
    let mut card = serving(&device);
    let threads = of_threads(&device, "NoNewPrivs");
    assert!(threads.len() > 3 && threads.iter().all(|&set| set == 1));
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let left = of_threads(&device, set);
        assert!(
            left.iter().all(|&left| left & !LOCKS == 0),
            "{set}: {left:x?}"
        );
    }
    let filtered = of_threads(&device, "Seccomp");
    if !device.whole_log().contains("off: ") {
        assert!(filtered.iter().all(|&mode| mode == 2), "{filtered:?}");
    }
    card.expect_service();
}

#[test]
fn without_real_time_no_capability_is_left() {
    let device = Device::start(&["--rt-priority", "0"]);
    let mut card = serving(&device);
    assert!(of_threads(&device, "CapPrm").iter().all(|&left| left == 0));
    card.expect_service();
}

#[test]
fn what_is_left_out_is_said() {
    let before = fs::read_to_string("/proc/self/status").unwrap();
    let mine = before.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    let mine = u64::from_str_radix(mine.unwrap().trim(), 16).unwrap();
    for (option, privileges, filter, left_out) in [
        (
            "--no-sandbox",
            0,
            0,
            &["no-new-privileges", "capabilities", "landlock", "seccomp"][..],
        ),
        (
            "--no-sandbox=seccomp,landlock",
            1,
            0,
            &["landlock", "seccomp"],
        ),
    ] {
        let device = Device::start(&[option]);
        let mut card = serving(&device);
        assert!(
            of_threads(&device, "NoNewPrivs")
                .iter()
                .all(|&set| set == privileges)
        );
        assert!(
            of_threads(&device, "Seccomp")
                .iter()
                .all(|&mode| mode == filter)
        );
        if privileges == 0 {
            assert!(
                of_threads(&device, "CapPrm")
                    .iter()
                    .all(|&left| left == mine)
            );
        }
        let log = device.whole_log();
        let off = log.split_once("; off: ").unwrap().1;
        let said: Vec<_> = off.split(',').map(str::trim).collect();
        let wanted: Vec<_> = left_out
            .iter()
            .map(|part| format!("{part} (--no-sandbox)"))
            .collect();
        assert_eq!(said.len(), wanted.len(), "{log}");
        assert!(
            wanted.iter().all(|part| said.contains(&part.as_str())),
            "{log}"
        );
        card.expect_service();
    }
}

#[test]
fn a_card_that_is_checked_is_in_its_sandbox() {
    let output = program().arg("--check").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(
        text.lines().last().unwrap().starts_with("sandbox: on: "),
        "{text}"
    );
    let output = program()
        .args(["--check", "--no-sandbox=files"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    for word in ["files", "all", "capabilities", "landlock", "seccomp"] {
        assert!(error.contains(word), "{error}");
    }
}
