// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Frontends that break off, come back, or say strange things.

use std::os::fd::AsRawFd;

use vmm_sys_util::eventfd::EventFd;

use crate::card::{Card, TX};
use crate::device::Device;
use crate::frontend::{EVENT_IDX, Frontend};
use crate::memory::{SIZE, SharedMemory};
use crate::raw_frontend::*;
use crate::sound::{SMALL, START, words};

#[test]
fn a_frontend_may_break_off_after_any_message() {
    let device = Device::null();
    for limit in 0.. {
        let card = Card::unattached([16; 4], EVENT_IDX);
        let mut frontend = Frontend::new(device.connect());
        let all = frontend.start(&card.memory, &card.queues, &[0; 4], card.features, limit) < limit;
        drop(frontend);
        if limit % 5 == 0 || all {
            Card::attach(&device).expect_service();
        }
        if all {
            break;
        }
    }
}

#[test]
fn a_frontend_may_break_off_inside_of_a_message() {
    let device = Device::null();
    let mut message = Vec::new();
    for word in [SET_VRING_NUM, 1, 8, 0, 256] {
        message.extend(word.to_le_bytes());
    }
    for length in 0..message.len() {
        RawFrontend::new(device.connect()).send_bytes(&message[..length], &[]);
    }
    // And while its answer is on the way.
    for _ in 0..20 {
        RawFrontend::new(device.connect()).send(GET_FEATURES, 1, &[], &[]);
    }
    Card::attach(&device).expect_service();
}

#[test]
fn a_frontend_that_resets_the_connection_and_a_crowd_of_others_are_served_in_turn() {
    let device = Device::null();
    let crowd: Vec<_> = (0..8).map(|_| device.connect()).collect();
    drop(crowd);
    for _ in 0..8 {
        Card::attach(&device).play(0, &SMALL, &[1; 80]);
    }
}

#[test]
fn messages_that_are_no_vhost_user_end_the_connection_at_most() {
    let device = Device::null();
    let header = |request: u32, flags: u32, size: u32| words(&[request, flags, size]);
    for bytes in [
        vec![0; 12],
        vec![0xff; 4096],
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        header(0, 1, 0),
        header(200, 1, 0),
        header(u32::MAX, 1, 0),
        header(GET_FEATURES, 0, 0),
        header(GET_FEATURES, 1, u32::MAX),
        header(SET_MEM_TABLE, 1, 8),
        header(SET_VRING_NUM, 1, 4096),
        [header(SET_VRING_NUM, 1, 4), vec![0; 4]].concat(),
        [header(SET_MEM_TABLE, 1, 8), words(&[u32::MAX, 0])].concat(),
    ] {
        RawFrontend::new(device.connect()).send_bytes(&bytes, &[]);
    }
    Card::attach(&device).expect_service();
}

#[test]
fn a_frontend_that_is_dropped_again_and_again_does_not_fill_the_log() {
    const TIMES: usize = 300;
    let device = Device::null();
    for _ in 0..TIMES {
        let mut raw = RawFrontend::new(device.connect());
        raw.send(u32::MAX, 1, &[], &[]);
        assert_eq!(raw.answer(), None);
    }
    let said = device.log().matches("the frontend is dropped").count();
    assert!((1..TIMES).contains(&said), "{said}");
}

#[test]
fn queues_that_do_not_exist_are_refused() {
    let device = Device::null();
    let event = EventFd::new(0).unwrap();
    for queue in [4u32, 5, 255, 256, u32::MAX] {
        let mut address = words(&[queue, 0]);
        address.resize(40, 0);
        let state = words(&[queue, 1]);
        let requests = [
            (SET_VRING_NUM, state.clone()),
            (SET_VRING_BASE, state.clone()),
            (SET_VRING_ENABLE, state),
            (SET_VRING_ADDR, address),
        ];
        for (request, payload) in requests {
            let mut raw = RawFrontend::negotiated(device.connect());
            let accepted = raw.accepts(request, &payload, &[]);
            assert!(!accepted, "request {request} for queue {queue}");
        }
        for request in [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR] {
            let mut raw = RawFrontend::negotiated(device.connect());
            // The number has 8 bits here.
            let payload = u64::from(queue.min(255)).to_le_bytes();
            assert!(!raw.accepts(request, &payload, &[event.as_raw_fd()]));
        }
        let mut raw = RawFrontend::negotiated(device.connect());
        raw.send(GET_VRING_BASE, 1, &words(&[queue, 0]), &[]);
        drop(raw);
    }
    Card::attach(&device).expect_service();
}

#[test]
fn queues_before_memory_are_not_served() {
    let device = Device::null();
    let event = EventFd::new(0).unwrap();
    let mut raw = RawFrontend::negotiated(device.connect());
    assert!(raw.accepts(SET_VRING_NUM, &words(&[0, 16]), &[]));
    // The address may be refused here or with the kick.
    let mut address = words(&[0, 0]);
    address.extend(
        [4096u64, 8192, 12288, 0]
            .iter()
            .flat_map(|at| at.to_le_bytes()),
    );
    let _ = raw.accepts(SET_VRING_ADDR, &address, &[]);
    drop(raw);
    let mut raw = RawFrontend::negotiated(device.connect());
    let _ = raw.accepts(SET_VRING_NUM, &words(&[0, 16]), &[]);
    assert!(!raw.accepts(SET_VRING_KICK, &[0; 8], &[event.as_raw_fd()]));
    drop(raw);
    Card::attach(&device).expect_service();
}

#[test]
fn the_base_of_a_queue_that_was_never_started_is_the_one_that_was_set() {
    let device = Device::null();
    let mut raw = RawFrontend::negotiated(device.connect());
    assert!(raw.accepts(SET_VRING_BASE, &words(&[2, 77]), &[]));
    raw.send(GET_VRING_BASE, 1, &words(&[2, 0]), &[]);
    assert_eq!(raw.answer().unwrap(), words(&[2, 77]));
    assert!(!raw.accepts(SET_VRING_BASE, &words(&[2, 0x1_0000]), &[]));
}

/// SET_MEM_TABLE with one region: guest address, size, user address, offset in the file.
fn memory_table(region: [u64; 4]) -> Vec<u8> {
    let mut table = words(&[1, 0]);
    table.extend(region.iter().flat_map(|field| field.to_le_bytes()));
    table
}

#[test]
fn memory_tables_that_cannot_be_mapped_are_refused() {
    let device = Device::null();
    let memory = SharedMemory::new();
    let wrong = [
        [0, 0, 4096, 0],
        [0, u64::MAX, 4096, 0],
        [0, SIZE, u64::MAX - 4096, 0],
        [u64::MAX - 4096, SIZE, 4096, 0],
        [0, SIZE, 4096, u64::MAX - 4095],
        [0, SIZE, 4096, 1],
        [0, SIZE + 4096, 4096, 0],
        [0, SIZE, 4096, 4096],
    ];
    for region in wrong {
        let mut raw = RawFrontend::negotiated(device.connect());
        let accepted = raw.accepts(SET_MEM_TABLE, &memory_table(region), &[memory.fd()]);
        assert!(!accepted, "{region:?}");
    }
    // Without its file.
    let mut raw = RawFrontend::negotiated(device.connect());
    assert!(!raw.accepts(SET_MEM_TABLE, &memory_table([0, SIZE, 4096, 0]), &[]));
    drop(raw);
    Card::attach(&device).expect_service();
}

#[test]
fn rings_outside_of_the_memory_are_refused() {
    let device = Device::null();
    let memory = SharedMemory::new();
    let event = EventFd::new(0).unwrap();
    let user = 0x10_0000;
    let inside = user + 4096;
    for [desc, used, avail] in [
        [0, inside, inside],
        [inside, user + SIZE - 8, inside],
        [inside, inside, user + SIZE],
        [u64::MAX - 15, inside, inside],
        [user + SIZE - 16, inside, inside],
    ] {
        let mut raw = RawFrontend::negotiated(device.connect());
        let table = memory_table([0, SIZE, user, 0]);
        assert!(raw.accepts(SET_MEM_TABLE, &table, &[memory.fd()]));
        let mut address = words(&[0, 0]);
        let fields = [desc, used, avail, 0];
        address.extend(fields.iter().flat_map(|at| at.to_le_bytes()));
        let accepted = raw.accepts(SET_VRING_NUM, &words(&[0, 256]), &[])
            && raw.accepts(SET_VRING_ADDR, &address, &[])
            && raw.accepts(SET_VRING_KICK, &[0; 8], &[event.as_raw_fd()]);
        assert!(!accepted, "{desc:#x} {used:#x} {avail:#x}");
    }
    Card::attach(&device).expect_service();
}

#[test]
fn two_hundred_frontends_leave_nothing_behind() {
    let device = Device::null();
    let life = || {
        let mut card = Card::attach_with(&device, [64; 4], EVENT_IDX);
        card.play(0, &SMALL, &[1; 8]);
        // Connections are served one after the other: those before this one are closed.
        (device.count_in_proc("fd"), device.count_in_proc("task"))
    };
    for _ in 0..5 {
        life();
    }
    let before = life();
    for _ in 0..200 {
        life();
    }
    assert_eq!(life(), before, "open files and threads");
}

#[test]
fn a_disabled_queue_is_left_alone_until_it_is_enabled() {
    use vhost::vhost_user::VhostUserFrontend;
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    let enable = |card: &mut Card, enabled| {
        let frontend = card.frontend.as_mut().unwrap();
        frontend.protocol().set_vring_enable(TX, enabled).unwrap();
    };
    enable(&mut card, false);
    let head = card.queue_playback(0, &[1; 8]);
    card.kick(TX);
    card.pcm_infos(2);
    assert!(card.completed(TX).is_none());
    enable(&mut card, true);
    card.completion(TX).expect_played(head);
    card.close(0);
}
