// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `--respawn`: a guard, and a worker that is replaced where a signal ends it.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal::{self, SIGABRT, SIGKILL, SIGSTOP, SIGTERM, SIGTSTP};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::card::{Card, TX};
use crate::device::{Device, of_threads, program, wait_for_end};
use crate::driver::LIMIT;
use crate::frontend::EVENT_IDX;
use crate::kernel::has_filters;
use crate::sandbox::expect_sandbox;
use crate::sound::*;

const PERIODS: usize = 60;
/// Of `SMALL`: bytes, which are frames, of a period.
const PERIOD: usize = 80;

fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The worker of this guard, other than the one before.
pub fn worker(guard: Pid, before: Option<Pid>) -> Pid {
    let path = format!("/proc/{guard}/task/{guard}/children");
    wait_until("a worker", || {
        let children = fs::read_to_string(&path).unwrap();
        let child = children.split_whitespace().next()?.parse();
        Some(Pid::from_raw(child.unwrap())).filter(|&it| Some(it) != before)
    })
}

fn wait_gone(process: Pid) {
    wait_until("its end", || {
        (kill(process, None) == Err(Errno::ESRCH)).then_some(())
    });
}

#[test]
fn a_worker_that_a_signal_ends_is_replaced_and_the_stream_goes_on() {
    let device = Device::start(&[
        "--host",
        "null",
        "--respawn",
        "--command-socket",
        "commands",
    ]);
    let mut kept = None;
    let mut card = Card::unattached([256; 4], EVENT_IDX);
    card.reattach_keeping(device.connect(), &mut kept);
    let samples = noise(PERIOD * PERIODS, 31);
    card.prepare(0, &SMALL);
    let heads = card.queue_periods(0, &samples, PERIOD);
    card.kick(TX);
    card.must(START, 0);
    let mut heads = heads.into_iter();
    let mut serving = worker(device.pid(), None);
    for signal in [SIGKILL, SIGABRT, SIGSTOP] {
        for head in heads.by_ref().take(10) {
            card.completion(TX).expect_played(head);
        }
        kill(serving, signal).unwrap();
        serving = worker(device.pid(), Some(serving));
        card.detach();
        card.reattach_keeping(device.connect(), &mut kept);
    }
    for head in heads {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
    let log = device.log();
    let count = |signal: Signal| log.matches(&format!("ended by {signal}")).count();
    // What is stopped is killed.
    assert_eq!((count(SIGKILL), count(SIGABRT)), (2, 1), "{log}");
    // Commands come to whoever serves.
    let tell = program()
        .arg("tell")
        .arg(device.path("commands"))
        .arg("status")
        .output();
    assert!(tell.unwrap().status.success());
}

#[test]
fn each_worker_is_in_a_sandbox_of_its_own() {
    let device = Device::start(&[
        "--host",
        "loop",
        "--respawn",
        "--command-socket",
        "commands",
    ]);
    let filters = |process| of_threads(process, "Seccomp_filters");
    let mut before = None;
    for _ in 0..2 {
        if let Some(before) = before {
            kill(before, SIGKILL).unwrap();
        }
        let serving = worker(device.pid(), before);
        let mut card = Card::attach(&device);
        card.pcm_infos(2);
        expect_sandbox(serving, &device);
        // Whatever the guard was born with, its own filters are none that a worker could inherit.
        if has_filters() {
            let guard = filters(device.pid());
            let sealed = filters(serving);
            assert!(sealed.iter().min() > guard.iter().max(), "{sealed:?}");
        }
        card.expect_service();
        before = Some(serving);
    }
}

#[test]
fn the_worker_ends_with_its_guard_and_their_sockets_go() {
    let mut device = Device::start(&[
        "--host",
        "null",
        "--respawn",
        "--command-socket",
        "commands",
    ]);
    drop(device.connect());
    let serving = worker(device.pid(), None);
    assert!(device.end_by(SIGTERM).success(), "{}", device.log());
    wait_gone(serving);
    assert!(!device.path("socket").exists() && !device.path("commands").exists());
    assert_eq!(device.log(), "");

    let mut device = Device::start(&["--host", "null", "--respawn"]);
    drop(device.connect());
    let serving = worker(device.pid(), None);
    device.end_by(SIGKILL);
    wait_gone(serving);
}

#[test]
fn a_worker_that_cannot_end_is_killed() {
    // In a group of its own, which somebody stops as a shell stops a job.
    let own_group = ["perl", "-e", "setpgrp; exec @ARGV"];
    let mut device = Device::start_by(&own_group, &["--host", "null", "--respawn"]);
    let serving = worker(device.pid(), None);
    kill(serving, SIGTSTP).unwrap();
    wait_until("its stop", || {
        let status = fs::read_to_string(format!("/proc/{serving}/status")).unwrap();
        status.contains("State:\tT").then_some(())
    });
    assert!(device.end_by(SIGTERM).success());
    wait_gone(serving);
}

#[test]
fn a_log_that_nobody_reads_keeps_no_guard_from_its_work() {
    let mut device = Device::start_unread(&["--host", "null", "--respawn", "-v"]);
    Card::attach(&device).expect_service();
    let mut serving = worker(device.pid(), None);
    device.fill_log();
    for _ in 0..2 {
        kill(serving, SIGKILL).unwrap();
        serving = worker(device.pid(), Some(serving));
        Card::attach(&device).expect_service();
    }
    assert!(device.end_by(SIGTERM).success());
    wait_gone(serving);
}

#[test]
fn a_guard_hears_of_its_workers_though_its_parent_did_not_want_to() {
    let ignored = ["env", "--ignore-signal=CHLD"];
    let device = Device::start_by(&ignored, &["--host", "null", "--respawn"]);
    let before = worker(device.pid(), None);
    Card::attach(&device).expect_service();
    kill(before, SIGKILL).unwrap();
    worker(device.pid(), Some(before));
    Card::attach(&device).expect_service();
}

#[test]
fn a_worker_that_ends_by_itself_is_the_end() {
    let mut command = program();
    command.args([
        "--socket-path",
        "/nowhere/socket",
        "--host",
        "null",
        "--respawn",
    ]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    assert_eq!(wait_for_end(&mut child).code(), Some(1));
    let error = child.wait_with_output().unwrap().stderr;
    let error = String::from_utf8(error).unwrap();
    assert!(error.contains("/nowhere/socket"), "{error}");
    assert_eq!(
        error
            .lines()
            .filter(|line| !line.contains(" sandbox: "))
            .count(),
        1,
        "{error}"
    );
}

#[test]
fn a_worker_that_dies_again_and_again_is_replaced_again_and_again() {
    let device = Device::start(&["--host", "null", "--respawn"]);
    let mut serving = worker(device.pid(), None);
    for _ in 0..5 {
        kill(serving, SIGKILL).unwrap();
        serving = worker(device.pid(), Some(serving));
    }
    // It may not listen yet.
    wait_until("a service", || {
        let socket = device.connect();
        socket.peer_addr().is_ok().then_some(())
    });
}
