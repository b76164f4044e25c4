// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! JACK_INFO, PCM_INFO and CHMAP_INFO (virtio 1.3, 5.14.6.1 and on).

use crate::card::{Card, UNTOUCHED};
use crate::device::Device;
use crate::sound::*;
use crate::wav;

#[test]
fn streams_tell_what_they_can_do() {
    let device = Device::start(&[
        "--host",
        "null",
        "--formats",
        "S16,U8",
        "--rates",
        "44100,48000",
        "--channels",
        "1-2",
    ]);
    let mut card = Card::attach(&device);
    let playback = PcmInfo {
        device: 0,
        features: EVT_XRUNS,
        formats: 1 << U8 | 1 << S16,
        rates: 1 << RATE_44100 | 1 << RATE_48000,
        direction: PLAYBACK,
        channels: (1, 2),
    };
    let capture = PcmInfo {
        direction: CAPTURE,
        ..playback.clone()
    };
    assert_eq!(card.pcm_infos(2), [playback, capture]);
}

#[test]
fn a_captured_file_is_offered_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    wav::write(
        &folder.path().join("in.wav"),
        wav::spec(44_100, 6, 24),
        &noise(18 * 4, 1),
    );
    let device = Device::start_in(folder, &["--host", "file", "--capture-file", "in.wav"]);
    let expected = PcmInfo {
        device: 0,
        features: EVT_XRUNS,
        formats: 1 << S24_3,
        rates: 1 << RATE_44100,
        direction: CAPTURE,
        channels: (6, 6),
    };
    assert_eq!(Card::attach(&device).pcm_infos(1), [expected]);
}

#[test]
fn a_range_of_streams_may_start_anywhere() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let response = card.query(PCM_INFO, 1, 1, PCM_INFO_BYTES);
    assert_eq!((response.status, response.length), (OK, 36));
    assert_eq!(response.items[24], CAPTURE);
}

#[test]
fn channel_maps_name_the_positions_of_alsa() {
    let device = Device::start(&["--host", "null", "--channels", "2-6"]);
    let mut card = Card::attach(&device);
    let response = card.query(CHMAP_INFO, 0, 10, CHMAP_INFO_BYTES);
    assert_eq!((response.status, response.length), (OK, 4 + 10 * 24));
    let maps: Vec<_> = response
        .items
        .chunks(24)
        .map(|map| {
            let channels = usize::from(map[5]);
            assert!(map[6 + channels..].iter().all(|&position| position == 0));
            (map[4], map[6..6 + channels].to_vec())
        })
        .collect();
    // FL FR RL RR FC LFE, as VIRTIO_SND_CHMAP_* has them.
    for direction in [PLAYBACK, CAPTURE] {
        for positions in [&[3, 4][..], &[3, 4, 7], &[3, 4, 5, 6], &[3, 4, 5, 6, 7, 8]] {
            assert!(
                maps.contains(&(direction, positions.to_vec())),
                "{positions:?}"
            );
        }
    }
}

#[test]
fn a_device_without_jacks_has_none_to_tell_of() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for (start, count) in [(0, 1), (0, u32::MAX), (7, 1)] {
        let response = card.query(JACK_INFO, start, count, JACK_INFO_BYTES);
        assert_eq!((response.status, response.length), (BAD_MSG, 4));
    }
}

#[test]
fn ranges_beyond_what_exists_are_bad_messages() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for code in [PCM_INFO, CHMAP_INFO] {
        for (start, count) in [
            (0, 17),
            (16, 1),
            (2, u32::MAX),
            (u32::MAX, 1),
            (u32::MAX, u32::MAX),
            (1, u32::MAX),
            (0x8000_0000, 0x8000_0000),
        ] {
            let response = card.query(code, start, count, 32);
            let found = (response.status, response.length);
            assert_eq!(found, (BAD_MSG, 4), "{code:#x}: {count} from {start}");
            assert!(response.items.iter().all(|&byte| byte == UNTOUCHED));
        }
    }
    card.expect_service();
}

#[test]
fn items_smaller_than_the_specification_says_are_bad_messages() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for (code, whole) in [(PCM_INFO, PCM_INFO_BYTES), (CHMAP_INFO, CHMAP_INFO_BYTES)] {
        for size in [0, 1, 4, whole - 1] {
            let response = card.request(&words(&[code, 0, 1, size]), 100);
            assert_eq!(
                (response.status, response.length),
                (BAD_MSG, 4),
                "{size} bytes"
            );
        }
    }
}

#[test]
fn items_larger_than_ours_are_filled_up() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let response = card.query(PCM_INFO, 0, 2, 40);
    assert_eq!((response.status, response.length), (OK, 84));
    assert_eq!(
        (response.items[24], response.items[64]),
        (PLAYBACK, CAPTURE)
    );
    assert_eq!(response.items[32..40], [0; 8]);
}

#[test]
fn items_that_do_not_fit_the_answer_are_not_written_beyond_it() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for room in [4, 5, 35, 67] {
        let response = card.request(&words(&[PCM_INFO, 0, 2, 32]), room);
        assert_eq!(
            (response.status, response.length),
            (BAD_MSG, 4),
            "{room} bytes"
        );
        assert!(response.items.iter().all(|&byte| byte == UNTOUCHED));
    }
    // A size that overflows any room.
    let response = card.request(&words(&[PCM_INFO, 0, 2, u32::MAX]), 4000);
    assert_eq!((response.status, response.length), (BAD_MSG, 4));
    assert_eq!(card.pcm_infos(2).len(), 2);
}
