// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Features, protocol features and the config space.

use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::VhostUserProtocolFeatures as Features;

use crate::card::Card;
use crate::device::Device;
use crate::driver::LIMIT;
use crate::frontend::{CTLS, EVENT_IDX, Frontend, INDIRECT_DESC, VERSION_1};
use crate::raw_frontend::{
    RawFrontend, SET_BACKEND_REQ_FD, SET_CONFIG, SET_FEATURES, SET_VRING_NUM,
};
use crate::sound::{OK, SMALL};
use crate::wav;

/// jacks, streams, channel maps, controls
fn config(device: &Device) -> Vec<u32> {
    let mut frontend = Frontend::new(device.connect());
    frontend.negotiate();
    let bytes = frontend.config(0, 16);
    let words = bytes.chunks(4);
    words
        .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
        .collect()
}

#[test]
fn only_features_that_are_served_are_offered() {
    let device = Device::null();
    let mut frontend = Frontend::new(device.connect());
    frontend.negotiate();
    // Bit 30 is that of vhost-user itself.
    let served = VERSION_1 | EVENT_IDX | INDIRECT_DESC | CTLS;
    assert_eq!(frontend.features(), served | 1 << 30);
    let offered = frontend.protocol().get_protocol_features().unwrap();
    let needed = Features::MQ | Features::CONFIG | Features::REPLY_ACK | Features::BACKEND_REQ;
    assert!(offered.contains(needed), "{offered:?}");
}

#[test]
fn a_card_without_control_elements_does_not_offer_them() {
    let device = Device::start(&["--host", "null", "--controls", "none"]);
    assert_eq!(config(&device), [0, 2, 16, 0]);
    let mut frontend = Frontend::new(device.connect());
    frontend.negotiate();
    assert_eq!(frontend.features() & CTLS, 0);
}

#[test]
fn features_that_are_not_offered_are_refused() {
    let device = Device::null();
    let mut raw = RawFrontend::negotiated(device.connect());
    let packed: u64 = 1 << 34 | 1 << 30 | 1 << 32;
    assert!(!raw.accepts(SET_FEATURES, &packed.to_le_bytes(), &[]));
    drop(raw);
    Card::attach(&device).expect_service();
}

#[test]
fn a_device_with_both_directions_tells_two_streams_and_their_channel_maps() {
    let config = config(&Device::null());
    // 1 to 8 channels, each for both directions.
    assert_eq!(config, [0, 2, 16, 4]);
}

#[test]
fn a_file_host_has_a_stream_for_each_file() {
    assert_eq!(config(&Device::player())[1], 1);
    let folder = tempfile::tempdir().unwrap();
    wav::write(
        &folder.path().join("in.wav"),
        wav::spec(8000, 1, 8),
        &[0x80; 8],
    );
    let device = Device::start_in(folder, &["--host", "file", "--capture-file", "in.wav"]);
    assert_eq!(config(&device), [0, 1, 1, 2]);
}

#[test]
fn config_space_is_read_in_parts() {
    let device = Device::null();
    let mut frontend = Frontend::new(device.connect());
    frontend.negotiate();
    assert_eq!(frontend.config(4, 4), [2, 0, 0, 0]);
    assert_eq!(frontend.config(8, 1), [16]);
    assert_eq!(frontend.config(15, 1), [0]);
}

#[test]
fn config_space_has_nothing_beyond_its_end() {
    let device = Device::null();
    for (offset, size) in [
        (16, 4),
        (15, 2),
        (0, 17),
        (0, 4096),
        (4095, 1),
        (u32::MAX, 1),
        (u32::MAX, u32::MAX),
        (4, u32::MAX),
        (0, 0),
    ] {
        let mut raw = RawFrontend::negotiated(device.connect());
        assert!(
            raw.config(offset, size).is_empty(),
            "{size} bytes at {offset}"
        );
    }
    let mut raw = RawFrontend::negotiated(device.connect());
    assert_eq!(raw.config(4, 4), [2, 0, 0, 0]);
}

#[test]
fn config_space_is_read_only() {
    let device = Device::null();
    let mut raw = RawFrontend::negotiated(device.connect());
    let mut payload = vec![0; 12];
    payload[4] = 4;
    payload.extend([9; 4]);
    assert!(!raw.accepts(SET_CONFIG, &payload, &[]));
    drop(raw);
    assert_eq!(config(&device), [0, 2, 16, 4]);
}

#[test]
fn a_frontend_without_protocol_features_is_served() {
    let device = Device::null();
    let mut card = Card::unattached([64; 4], 0);
    let mut frontend = Frontend::new(device.connect());
    frontend.start_without_protocol_features(&card.memory, &card.queues, card.features);
    card.frontend = Some(frontend);
    card.expect_service();
}

#[test]
fn a_channel_for_requests_of_the_device_is_kept_as_long_as_the_connection() {
    let device = Device::null();
    let mut raw = RawFrontend::negotiated(device.connect());
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    assert!(raw.accepts(SET_BACKEND_REQ_FD, &[], &[theirs.as_raw_fd()]));
    drop(theirs);
    ours.set_nonblocking(true).unwrap();
    let end = ours.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::WouldBlock));
    drop(raw);
    ours.set_nonblocking(false).unwrap();
    ours.set_read_timeout(Some(LIMIT)).unwrap();
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    Card::attach(&device).expect_service();
}

#[test]
fn queues_of_every_size_are_served() {
    for features in [0, EVENT_IDX] {
        let device = Device::null();
        for size in (1..=10).map(|power| 1 << power) {
            let mut card = Card::attach_with(&device, [size; 4], features);
            assert_eq!(card.set_params(0, &SMALL), OK, "{size} entries");
            card.must(crate::sound::PREPARE, 0);
            card.must(crate::sound::START, 0);
            for _ in 0..2 {
                let head = card.queue_short_playback(0, &[1; 80]);
                card.kick(crate::card::TX);
                card.completion(crate::card::TX).expect_played(head);
            }
            card.close(0);
        }
    }
}

#[test]
fn queue_sizes_that_cannot_be_served_are_refused() {
    let device = Device::null();
    for size in [0u32, 3, 100, 2048, 32_768, 65_536, u32::MAX] {
        let mut raw = RawFrontend::negotiated(device.connect());
        let payload = crate::sound::words(&[0, size]);
        let accepted = raw.accepts(SET_VRING_NUM, &payload, &[]);
        assert!(!accepted, "{size} entries");
    }
    Card::attach(&device).expect_service();
}
