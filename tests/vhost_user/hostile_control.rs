// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Control messages that no driver should send: each gets a status, and the next one works.

use crate::card::{CONTROL, Card, UNTOUCHED};
use crate::device::Device;
use crate::driver::{Buffer, INDIRECT, NEXT, WRITE};
use crate::memory::SIZE;
use crate::sound::*;

#[test]
fn unknown_requests_are_not_supported() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for code in [
        0,
        3,
        0xff,
        0x106,
        0x1ff,
        0x201,
        0x300,
        0x304,
        0x8000,
        u32::MAX,
    ] {
        let response = card.request(&words(&[code, 0, 0, 0]), 64);
        assert_eq!(
            (response.status, response.length),
            (NOT_SUPP, 4),
            "{code:#x}"
        );
    }
    // Jacks cannot be remapped where there are none.
    let response = card.request(&words(&[2, 0, 0, 0]), 4);
    assert_ne!(response.status, OK);
    card.expect_service();
}

#[test]
fn streams_that_do_not_exist_are_bad_messages() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for stream in [2, 3, 255, 256, 0x8000_0000, u32::MAX] {
        assert_eq!(card.set_params(stream, &SMALL), BAD_MSG);
        for code in [PREPARE, START, STOP, RELEASE] {
            assert_eq!(card.ask(code, stream), BAD_MSG, "{code:#x} for {stream}");
        }
    }
    card.expect_service();
}

#[test]
fn a_request_cut_short_anywhere_is_a_bad_message() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for whole in [
        words(&[PCM_INFO, 0, 1, 32]),
        words(&[CHMAP_INFO, 0, 1, 24]),
        words(&[JACK_INFO, 0, 1, 24]),
        words(&[PREPARE, 0]),
        SMALL.request(0),
    ] {
        for length in 1..whole.len() {
            let response = card.request(&whole[..length], 64);
            let found = (response.status, response.length);
            assert_eq!(found, (BAD_MSG, 4), "{length} bytes of {whole:?}");
        }
    }
    card.expect_service();
}

#[test]
fn a_request_may_be_longer_and_lie_anyhow() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let mut long = words(&[PCM_INFO, 0, 2, 32]);
    long.resize(4000, 0xff);
    assert_eq!(card.request(&long, 68).status, OK);
    // Byte by byte, request and answer.
    let at = card.bytes(&words(&[PCM_INFO, 0, 2, 32]));
    let answer = card.bytes(&[UNTOUCHED; 68]);
    let mut parts: Vec<_> = (0..16).map(|byte| Buffer::readable(at + byte, 1)).collect();
    parts.extend((0..68).map(|byte| Buffer::writable(answer + byte, 1)));
    assert_eq!(card.exchange(CONTROL, &parts).length, 68);
    assert_eq!(card.memory.read(answer, 4), words(&[OK]));
}

#[test]
fn messages_without_room_for_a_status_come_back_with_nothing_written() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let request = card.bytes(&words(&[PCM_INFO, 0, 1, 32]));
    let room = card.bytes(&[UNTOUCHED; 64]);
    let shapes = [
        vec![Buffer::readable(request, 16)],
        vec![Buffer::readable(request, 16), Buffer::readable(room, 64)],
        vec![Buffer::readable(request, 16), Buffer::writable(room, 3)],
        vec![Buffer::readable(request, 16), Buffer::writable(room, 0)],
    ];
    for shape in shapes {
        assert_eq!(card.exchange(CONTROL, &shape).length, 0, "{shape:?}");
        assert_eq!(card.pcm_infos(2).len(), 2);
    }
    assert_eq!(card.memory.read(room, 64), [UNTOUCHED; 64]);
}

#[test]
fn messages_of_the_wrong_shape_are_bad_messages() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let request = card.bytes(&words(&[PCM_INFO, 0, 1, 32]));
    let outside = [SIZE, SIZE - 8, u64::MAX - 7, u64::MAX, 1 << 63];
    let room = |card: &Card| card.bytes(&[UNTOUCHED; 64]);
    let mut shapes = vec![];
    let at = room(&card);
    // No request at all; the answer before the request; a request that may be written to.
    shapes.push((vec![Buffer::writable(at, 36)], at));
    let at = room(&card);
    shapes.push((
        vec![Buffer::writable(at, 36), Buffer::readable(request, 16)],
        at,
    ));
    let at = room(&card);
    shapes.push((
        vec![Buffer::readable(request, 0), Buffer::writable(at, 36)],
        at,
    ));
    for address in outside {
        let at = room(&card);
        shapes.push((
            vec![Buffer::readable(address, 16), Buffer::writable(at, 36)],
            at,
        ));
    }
    for (shape, at) in shapes {
        let used = card.exchange(CONTROL, &shape);
        assert_eq!(used.length, 4, "{shape:?}");
        assert_eq!(card.memory.read(at, 4), words(&[BAD_MSG]), "{shape:?}");
        assert_eq!(card.pcm_infos(2).len(), 2);
    }
}

#[test]
fn requests_that_are_too_long_for_any_chain_come_back() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let request = card.bytes(&words(&[PREPARE, 0]));
    for length in [u32::MAX, u32::MAX - 4, 1 << 31] {
        let at = card.bytes(&[UNTOUCHED; 4]);
        let shape = [Buffer::readable(request, length), Buffer::writable(at, 4)];
        assert!([0, 4].contains(&card.exchange(CONTROL, &shape).length));
        let found = card.memory.read(at, 4);
        assert!([words(&[BAD_MSG]), vec![UNTOUCHED; 4]].contains(&found));
    }
    card.expect_service();
}

#[test]
fn answers_outside_of_the_memory_are_not_written() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let request = card.bytes(&words(&[PREPARE, 0]));
    for address in [SIZE, SIZE - 3, u64::MAX - 3, u64::MAX, 1 << 63] {
        let shape = [Buffer::readable(request, 8), Buffer::writable(address, 4)];
        assert_eq!(card.exchange(CONTROL, &shape).length, 0, "at {address:#x}");
        assert_eq!(card.pcm_infos(2).len(), 2);
    }
}

/// Adds a chain that the driver side would not make; waits until it comes back, if it does before
/// the next request is answered.
fn offer_crooked(card: &mut Card, descriptors: &[(Buffer, u16, u16)]) {
    let shape: Vec<_> = descriptors.iter().map(|(buffer, ..)| *buffer).collect();
    let queue = &mut card.queues[CONTROL];
    let indices = queue.chain(&shape);
    for (&index, &(buffer, flags, next)) in indices.iter().zip(descriptors) {
        // 0 to n name the chain's own descriptors, larger numbers are taken as they are.
        let next = indices.get(usize::from(next)).copied().unwrap_or(next);
        queue.write_descriptor(index, buffer, flags, next);
    }
    queue.offer(indices[0]);
    queue.kick();
    assert_eq!(queue.wait_used().head, indices[0]);
}

#[test]
fn chains_that_loop_lead_out_of_the_table_or_to_another_one_come_back() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let request = Buffer::readable(card.bytes(&words(&[PCM_INFO, 0, 1, 32])), 16);
    let room = Buffer::writable(card.bytes(&[UNTOUCHED; 64]), 36);
    let table = Buffer::readable(card.bytes(&[0xff; 64]), 64);
    let crooked: [&[(Buffer, u16, u16)]; 8] = [
        &[(request, NEXT, 0)],
        &[(room, NEXT | WRITE, 0)],
        &[(request, NEXT, 1), (room, NEXT | WRITE, 1)],
        &[(request, NEXT, 1), (room, NEXT | WRITE, 0)],
        &[(request, NEXT, 256)],
        &[(request, NEXT, u16::MAX)],
        &[(table, INDIRECT, 0)],
        &[(request, NEXT, 1), (table, INDIRECT | NEXT | WRITE, 0)],
    ];
    for descriptors in crooked {
        offer_crooked(&mut card, descriptors);
        assert_eq!(card.pcm_infos(2).len(), 2, "after {descriptors:?}");
    }
    card.expect_service();
}

#[test]
fn many_requests_at_once_are_answered_in_order() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let request = card.bytes(&words(&[PCM_INFO, 0, 1, 32]));
    let heads: Vec<_> = (0..128)
        .map(|_| {
            let room = card.bytes(&[UNTOUCHED; 36]);
            let shape = [Buffer::readable(request, 16), Buffer::writable(room, 36)];
            card.queues[CONTROL].add(&shape)
        })
        .collect();
    card.kick(CONTROL);
    for head in heads {
        let used = card.queues[CONTROL].wait_used();
        assert_eq!((used.head, used.length), (head, 36));
    }
}
