// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device that has nothing to do sleeps. A device that spins instead would use all of the pause
//! that it is watched for; a busy machine only makes it use less.

use std::time::Duration;

use crate::card::{Card, EVENT, RX, TX};
use crate::device::Device;
use crate::driver::Buffer;
use crate::sound::*;

/// 40 ticks of 10 ms.
const PAUSE: Duration = Duration::from_millis(400);
const TICKS: u64 = 15;

pub fn sleeps(device: &Device, state: &str) {
    let before = device.cpu_ticks();
    std::thread::sleep(PAUSE);
    let used = device.cpu_ticks() - before;
    assert!(used < TICKS, "{state}: {used} ticks of CPU time");
}

#[test]
fn without_and_with_a_frontend_and_after_it() {
    let device = Device::null();
    drop(device.connect());
    sleeps(&device, "nobody is there");
    let mut card = Card::attach(&device);
    card.pcm_infos(2);
    sleeps(&device, "a driver is there");
    card.detach();
    sleeps(&device, "the frontend is gone");
    card.reattach(device.connect());
    sleeps(&device, "a frontend is back");
}

#[test]
fn with_streams_that_stand_or_starve() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for stream in [0, 1] {
        card.prepare(stream, &SMALL);
    }
    card.queue_playback(0, &vec![1; 1 << 16]);
    card.queue_capture(1, 1 << 16);
    card.kick(TX);
    card.kick(RX);
    sleeps(&device, "prepared with messages");
    card.must(START, 0);
    card.must(START, 1);
    sleeps(&device, "one message of several seconds");
    for stream in [0, 1] {
        card.must(STOP, stream);
    }
    sleeps(&device, "stopped with messages");
    for stream in [0, 1] {
        card.must(RELEASE, stream);
        card.must(PREPARE, stream);
        card.must(START, stream);
    }
    sleeps(&device, "running without messages");
    card.close(0);
    card.close(1);
}

#[test]
fn with_rings_that_are_broken_or_disabled() {
    use vhost::vhost_user::VhostUserFrontend;
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    let frontend = card.frontend.as_mut().unwrap();
    frontend.protocol().set_vring_enable(TX, false).unwrap();
    card.queue_playback(0, &[1; 80]);
    card.queues[TX].kick_anyway();
    sleeps(&device, "a message in a disabled queue");
    let ring = &mut card.queues[RX];
    card.memory.store16(ring.avail + 2, 0x8000);
    ring.kick_anyway();
    sleeps(&device, "a queue with nonsense in it");
}

#[test]
fn with_news_that_cannot_be_told() {
    let device = crate::events::device();
    let plug = |state| assert!(crate::commands::tell(&device, &["jack", "0", state]).0);
    plug("plugged");
    let mut card = Card::attach(&device);
    // Room, but a driver that has not said anything yet.
    let room = Buffer::writable(card.bytes(&[0; 8]), 8);
    card.queues[EVENT].add(&[room]);
    card.kick(EVENT);
    sleeps(&device, "a driver that starts");
    card.prepare(0, &SMALL);
    card.queues[EVENT].wait_used();
    plug("unplugged");
    sleeps(&device, "no room");
    let ring = &mut card.queues[EVENT];
    card.memory.store16(ring.avail + 2, 0x8000);
    ring.kick_anyway();
    sleeps(&device, "an event queue with nonsense in it");
}
