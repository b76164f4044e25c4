// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The CPUs of the process: chosen by option or card file, or left as the parent has made them.

use std::fs;

use crate::card::Card;
use crate::command_line::{fails_with, is_wrong_usage};
use crate::device::Device;

const CARD: &str = "[[stream]]\ndirection = 'playback'\nhost = 'null'\n";

/// What the kernel says of the CPUs of each thread.
fn cpus(device: &Device) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{}/task", device.pid())).unwrap();
    let list = |status: String| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        line.unwrap().trim().to_owned()
    };
    threads
        .map(|thread| list(fs::read_to_string(thread.unwrap().path().join("status")).unwrap()))
        .collect()
}

/// A serving device whose threads all run on `expected`.
fn runs_on(device: &Device, expected: &str) {
    let mut card = Card::attach(device);
    card.pcm_infos(1);
    let found = cpus(device);
    // As long as a frontend is there, so are the threads that serve it.
    drop(card);
    assert!(found.len() > 2, "{found:?}");
    assert!(found.iter().all(|list| list == expected), "{found:?}");
}

/// The CPUs of this test.
fn allowed() -> Vec<usize> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    (0..nix::sched::CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap())
        .collect()
}

#[test]
fn all_threads_run_where_the_option_the_card_file_or_the_parent_says() {
    let cpus = allowed();
    let (first, last) = (cpus[0].to_string(), cpus[cpus.len() - 1].to_string());
    runs_on(&Device::start(&["--cpus", &last]), &last);
    runs_on(&Device::start_by(&["taskset", "-c", &last], &[]), &last);
    let card = |cpu: &str| {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("{CARD}[process]\ncpus = '{cpu}'\nrt-priority = 0\n");
        fs::write(folder.path().join("card.toml"), text).unwrap();
        folder
    };
    let device = Device::start_in(card(&last), &["--card", "card.toml"]);
    runs_on(&device, &last);
    // The command line wins; what it overrides need not be there.
    let options = ["--card", "card.toml", "--cpus", &first];
    runs_on(&Device::start_in(card("1023"), &options), &first);
}

#[test]
fn a_cpu_that_the_process_may_not_use_is_refused_with_those_that_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--socket-path", "socket", "--cpus", "0-1023"];
    let words = ["--cpus 0-1023", "may not run on CPU", "1023", "it may use"];
    fails_with(&folder, &options, &words);
    let text = format!("{CARD}[process]\n\ncpus = '1023'\n");
    fs::write(folder.path().join("card.toml"), text).unwrap();
    let options = ["--socket-path", "socket", "--card", "card.toml"];
    fails_with(&folder, &options, &["card.toml:6: cpus: ", "CPU 1023"]);
    is_wrong_usage(&["--socket-path", "s", "--cpus", "1-"], &["1-", "0-1,3"]);
}
