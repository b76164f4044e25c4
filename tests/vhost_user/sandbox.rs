// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the process has given up by the time it serves, as the system shows it, and the option that
//! keeps it.

use std::fs;

use nix::unistd::Pid;

use crate::card::Card;
use crate::device::{Device, of_threads, program};
use crate::kernel::{has_filters, lacks, needlessly_off};

/// CAP_IPC_LOCK, the one that may be left: memory stays locked only for who has it.
const LOCKS: u64 = 1 << 14;

/// Nothing is said to be off that the kernel has.
fn expect_all_on(report: &str) {
    let off = needlessly_off(report, &lacks());
    assert!(off.is_empty(), "{off:?}: {report}");
}

/// All threads of a process have given up what they do not need, but for what the kernel lacks; so has the
/// log of `device`.
pub fn expect_sandbox(process: Pid, device: &Device) {
    let threads = of_threads(process, "NoNewPrivs");
    assert!(threads.len() > 3 && threads.iter().all(|&set| set == 1));
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let left = of_threads(process, set);
        assert!(
            left.iter().all(|&left| left & !LOCKS == 0),
            "{set}: {left:x?}"
        );
    }
    if has_filters() {
        let filtered = of_threads(process, "Seccomp");
        assert!(filtered.iter().all(|&mode| mode == 2), "{filtered:?}");
    }
    expect_all_on(&device.whole_log());
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
    expect_sandbox(device.pid(), &device);
    card.expect_service();
}

#[test]
fn without_real_time_no_capability_is_left() {
    let device = Device::start(&["--rt-priority", "0"]);
    let mut card = serving(&device);
    assert!(
        of_threads(device.pid(), "CapPrm")
            .iter()
            .all(|&left| left == 0)
    );
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
            of_threads(device.pid(), "NoNewPrivs")
                .iter()
                .all(|&set| set == privileges)
        );
        assert!(
            of_threads(device.pid(), "Seccomp")
                .iter()
                .all(|&mode| mode == filter)
        );
        if privileges == 0 {
            assert!(
                of_threads(device.pid(), "CapPrm")
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
    expect_all_on(&text);
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
