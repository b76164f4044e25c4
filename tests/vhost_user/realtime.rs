// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The audio thread's priority and the process's locked memory, as the system shows them; and what
//! the log says where the system does not allow them.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE, EventFd};

use crate::card::{CONTROL, Card, STATUS_BYTES, TX};
use crate::changer::{Changer, Offers};
use crate::device::{Device, program};
use crate::driver::Buffer;
use crate::sound::*;

const NO_PRIORITY: &str = "no real-time priority";
const NOT_LOCKED: &str = "memory is not locked";
const FIFO: u32 = 1;
/// Ticks of CPU time in a second (USER_HZ).
const TICKS: u32 = 100;
/// Four fifths; one wake-up is begun within them and may end behind them, and ticks are whole.
const MOST_PERCENT: u32 = 88;

/// Two fields of the stat of each thread, by its name.
fn of_threads(device: &Device, numbers: [usize; 2]) -> HashMap<String, (u32, u32)> {
    let threads = fs::read_dir(format!("/proc/{}/task", device.pid())).unwrap();
    let stat =
        threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).unwrap());
    let parse = |stat: String| {
        let (name, fields) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
        // The first of these is field 3.
        let fields: Vec<_> = fields.split_whitespace().collect();
        let [first, second] = numbers.map(|number| fields[number - 3].parse().unwrap());
        (name.to_owned(), (first, second))
    };
    stat.map(parse).collect()
}

/// Scheduling policy and real-time priority of each thread, by its name.
fn scheduling(device: &Device) -> HashMap<String, (u32, u32)> {
    of_threads(device, [41, 40])
}

/// CPU time that the audio thread has used, for itself and in the kernel, in ticks.
fn ticks_of_audio(device: &Device) -> u32 {
    let (user, system) = of_threads(device, [14, 15])["audio"];
    user + system
}

fn locked_kib(device: &Device) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", device.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    line.unwrap().trim_end_matches("kB").trim().parse().unwrap()
}

/// A device that serves a driver.
fn serving(device: &Device) -> Card {
    let mut card = Card::attach(device);
    card.pcm_infos(2);
    card
}

#[test]
fn the_audio_thread_alone_is_real_time_or_the_log_says_why_not() {
    let choices: [(&[&str], _); 3] = [
        (&[], 50),
        (&["--rt-priority", "7"], 7),
        (&["--realtime-priority", "8"], 8),
    ];
    for (options, priority) in choices {
        let device = Device::start(options);
        let mut card = serving(&device);
        let mut threads = scheduling(&device);
        let audio = threads.remove("audio").unwrap();
        // Who runs this test may or may not be allowed to.
        if audio == (FIFO, priority) {
            assert!(!device.log().contains(NO_PRIORITY), "{}", device.log());
        } else {
            assert!(
                device.log().contains("LimitRTPRIO"),
                "{audio:?}, {}",
                device.log()
            );
        }
        assert!(!threads.is_empty());
        assert!(
            threads.values().all(|&thread| thread == (0, 0)),
            "{threads:?}"
        );
        assert_eq!(
            locked_kib(&device) == 0,
            device.log().contains(NOT_LOCKED),
            "{}",
            device.log()
        );
        card.expect_service();
    }
}

#[test]
fn without_real_time_nothing_is_asked_of_the_system() {
    let device = Device::start(&["--rt-priority", "0"]);
    let mut card = serving(&device);
    assert!(scheduling(&device).values().all(|&thread| thread == (0, 0)));
    assert_eq!((locked_kib(&device), device.log().as_str()), (0, ""));
    card.expect_service();
}

#[test]
fn what_the_system_does_not_allow_is_said_and_done_without() {
    // No capability that root has, and no limit that would make up for it.
    let drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let limit = ["prlimit", "--rtprio=0", "--memlock=65536:65536"];
    let device = Device::start_by(&[&drop[..], &limit[..]].concat(), &[]);
    let mut card = serving(&device);
    assert!(scheduling(&device).values().all(|&thread| thread == (0, 0)));
    assert_eq!(locked_kib(&device), 0);
    let log = device.log();
    assert_eq!(log.lines().count(), 2, "{log}");
    for words in [
        NO_PRIORITY,
        "LimitRTPRIO=50",
        "CAP_SYS_NICE",
        "limits.d",
        NOT_LOCKED,
        "LimitMEMLOCK=infinity",
        "CAP_IPC_LOCK",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
    card.expect_service();
}

#[test]
fn a_priority_that_does_not_exist_is_refused() {
    for priority in ["100", "-1", "high"] {
        let option = format!("--rt-priority={priority}");
        let output = program()
            .args(["--socket-path", "s", &option])
            .output()
            .unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        for words in [priority, "--rt-priority <N>"] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }
    let output = program()
        .args(["--socket-path", "s", "--rt-priority=100"])
        .output()
        .unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("0..=99"));
}

/// A driver that kicks whatever happens wakes nobody while its stream runs.
#[test]
fn a_flood_of_kicks_and_requests_keeps_nobody_from_being_served() {
    let device = Device::null();
    let mut card = serving(&device);
    card.prepare(0, &SMALL);
    let heads = card.queue_periods(0, &[1; 800], 80);
    card.kick(TX);
    card.must(START, 0);
    for head in heads {
        for _ in 0..100 {
            card.queues[TX].kick_anyway();
            card.pcm_infos(2);
        }
        card.completion(TX).expect_played(head);
    }
    card.close(0);
}

/// Who kicks so often that the device never finds the eventfd empty, as one does that is read in small change.
fn kick_for_ever(card: &mut Card) {
    card.frontend.as_mut().unwrap().stop(4);
    card.forget();
    let kick = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE).unwrap();
    kick.write(1 << 40).unwrap();
    card.queues[CONTROL].kick = kick;
    let frontend = card.frontend.as_mut().unwrap();
    frontend.start_again(&card.memory, &card.queues, &[0; 4], card.features);
}

/// A driver kicks all the time and offers whatever is in the table of a queue. A busy machine leaves the thread
/// less. What is measured is a share, so a slow one takes only longer.
fn leaves_the_others_a_fifth(device: &Device, card: &mut Card, queue: usize) {
    let mut offers = Offers::of(card, queue);
    let offered = Arc::clone(&offers.count);
    let driver = Changer::start(card, move |memory, dice| offers.offer(memory, dice));
    let (start, before) = (Instant::now(), ticks_of_audio(device));
    card.wait_until("a second of work", |_| {
        ticks_of_audio(device) >= before + TICKS
    });
    let worked = ticks_of_audio(device) - before;
    let most = start.elapsed().as_millis() * u128::from(TICKS * MOST_PERCENT) / 100_000;
    assert!(u128::from(worked) <= most, "{worked} ticks, not {most}");
    driver.stop();
    assert!(offered.load(Ordering::Relaxed) >= 1000);
    card.reset();
    card.expect_service();
}

#[test]
fn a_flood_of_kicks_and_requests_leaves_the_others_a_fifth_of_a_processor() {
    let device = Device::null();
    let mut card = serving(&device);
    kick_for_ever(&mut card);
    let request = card.bytes(&words(&[PCM_INFO, 0, 2, PCM_INFO_BYTES]));
    let room = 4 + 2 * PCM_INFO_BYTES;
    let answer = card.memory.allocate(room.into(), true);
    let parts = [
        Buffer::readable(request, 16),
        Buffer::writable(answer, room),
    ];
    for _ in 0..card.queues[CONTROL].size / 2 {
        card.queues[CONTROL].chain(&parts);
    }
    leaves_the_others_a_fifth(&device, &mut card, CONTROL);
}

/// As fast as the stream plays them, with messages between them that are none.
#[test]
fn a_flood_of_messages_of_one_frame_leaves_the_others_a_fifth_of_a_processor() {
    let device = Device::null();
    let mut card = serving(&device);
    kick_for_ever(&mut card);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    let header = Buffer::readable(card.bytes(&words(&[0])), 4);
    let frame = Buffer::readable(card.bytes(&[1]), 1);
    let status_at = card.status_room();
    let status = Buffer::writable(status_at, STATUS_BYTES);
    for _ in 0..card.queues[TX].size / 3 {
        card.queues[TX].chain(&[header, frame, status]);
    }
    leaves_the_others_a_fifth(&device, &mut card, TX);
}

/// In a ring of them, every descriptor is the first one of what is left of it: the driver names its stream, or
/// its request, in each.
#[test]
fn a_flood_of_chains_of_hundreds_of_parts_leaves_the_others_a_fifth_of_a_processor() {
    for queue in [CONTROL, TX] {
        let device = Device::null();
        let mut card = serving(&device);
        kick_for_ever(&mut card);
        let word = card.bytes(&words(&[0]));
        let status = card.status_room();
        let mut parts = vec![Buffer::readable(word, 4); 255];
        parts.push(Buffer::writable(status, STATUS_BYTES));
        card.queues[queue].chain(&parts);
        leaves_the_others_a_fifth(&device, &mut card, queue);
    }
}
