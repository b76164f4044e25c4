// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Control elements: what the device tells of them, and what they do to the sound.

use std::path::Path;

use nix::sys::signal::Signal;

use crate::card::{CONTROL, Card, EVENT, RX, Response, TX, UNTOUCHED};
use crate::device::Device;
use crate::driver::Buffer;
use crate::frontend::{CTLS, EVENT_IDX};
use crate::sound::*;
use crate::wav;

const CTL_INFO: u32 = 0x300;
const ENUM_ITEMS: u32 = 0x301;
const READ: u32 = 0x302;
const WRITE: u32 = 0x303;
const TLV_READ: u32 = 0x304;
const TLV_WRITE: u32 = 0x305;
const TLV_COMMAND: u32 = 0x306;

/// Bytes of `virtio_snd_ctl_info` in Linux, and of `virtio_snd_ctl_value`.
const INFO_BYTES: u32 = 96;
const VALUE_BYTES: usize = 512;

/// The elements of a card with both directions, in their order.
const MASTER_VOLUME: u32 = 0;
const MASTER_SWITCH: u32 = 1;
const CAPTURE_VOLUME: u32 = 2;
const CAPTURE_SWITCH: u32 = 3;

/// The value of 0 dB, and how many make a decibel.
const UNITY: u32 = 121;
const STEPS: u32 = 2;

/// A driver that has accepted control elements.
fn mixer(device: &Device) -> Card {
    Card::attach_with(device, [256; 4], EVENT_IDX | CTLS)
}

impl Card {
    /// CTL_WRITE; its status.
    fn set_control(&mut self, id: u32, values: &[u32]) -> u32 {
        let mut request = words(&[WRITE, id]);
        request.extend(words(values));
        request.resize(8 + VALUE_BYTES, 0);
        let response = self.request(&request, 4);
        assert_eq!(response.length, 4);
        response.status
    }

    fn must_set_control(&mut self, id: u32, values: &[u32]) {
        assert_eq!(self.set_control(id, values), OK, "{values:?} for {id}");
    }

    fn read_control(&mut self, id: u32) -> Response {
        self.request(&words(&[READ, id]), 4 + VALUE_BYTES as u32)
    }

    /// The first values of an element.
    fn control<const COUNT: usize>(&mut self, id: u32) -> [u32; COUNT] {
        let response = self.read_control(id);
        assert_eq!(
            (response.status, response.length),
            (OK, 4 + VALUE_BYTES as u32)
        );
        let word =
            |at: usize| u32::from_le_bytes(response.items[4 * at..][..4].try_into().unwrap());
        std::array::from_fn(word)
    }
}

/// An element as CTL_INFO describes it.
#[derive(Debug, PartialEq, Eq)]
struct Info {
    role: u32,
    kind: u32,
    access: u32,
    count: u32,
    index: u32,
    name: String,
    range: [u32; 3],
}

fn infos(card: &mut Card, count: u32) -> Vec<Info> {
    let response = card.query(CTL_INFO, 0, count, INFO_BYTES);
    assert_eq!(
        (response.status, response.length),
        (OK, 4 + count * INFO_BYTES)
    );
    let items = response.items.chunks(INFO_BYTES as usize);
    let decode = |item: &[u8]| {
        let word = |at: usize| u32::from_le_bytes(item[at..at + 4].try_into().unwrap());
        let name = item[24..68].split(|&byte| byte == 0).next().unwrap();
        Info {
            role: word(4),
            kind: word(8),
            access: word(12),
            count: word(16),
            index: word(20),
            name: String::from_utf8(name.to_vec()).unwrap(),
            range: [word(72), word(76), word(80)],
        }
    };
    items.map(decode).collect()
}

#[test]
fn each_direction_has_a_volume_and_a_switch() {
    let device = Device::null();
    let mut card = mixer(&device);
    let found = infos(&mut card, 4);
    let names: Vec<_> = found.iter().map(|info| info.name.as_str()).collect();
    let both = [
        "Master Playback Volume",
        "Master Playback Switch",
        "Capture Volume",
        "Capture Switch",
    ];
    assert_eq!(names, both);
    // Readable and writable, and readable metadata; 8 channels of 0 to 121.
    let volume = |info: &Info| (info.kind, info.access, info.count, info.index, info.range);
    for (place, role) in [(0, 2), (2, 3)] {
        assert_eq!(found[place].role, role);
        assert_eq!(volume(&found[place]), (1, 0x13, 8, 0, [0, UNITY, 0]));
        assert_eq!(found[place + 1].role, role + 2);
        assert_eq!(volume(&found[place + 1]), (0, 3, 1, 0, [0; 3]));
    }
    assert_eq!(card.control(MASTER_VOLUME), [UNITY; 8]);
    assert_eq!(card.control(CAPTURE_SWITCH), [1]);
    let device = Device::player();
    assert_eq!(infos(&mut mixer(&device), 2)[0].name, both[0]);
}

#[test]
fn volumes_have_a_scale_in_decibels() {
    let device = Device::null();
    let mut card = mixer(&device);
    for volume in [MASTER_VOLUME, CAPTURE_VOLUME] {
        // As Linux asks: 4096 bytes. DB_SCALE, two words: -60.5 dB, half a decibel a step, 0 is silence.
        let response = card.request(&words(&[TLV_READ, volume]), 4 + 4092);
        assert_eq!((response.status, response.length), (OK, 4 + 16));
        let scale = words(&[1, 8, (-6050i32) as u32, 1 << 16 | 50]);
        assert_eq!(response.items[..16], scale);
        let response = card.request(&words(&[TLV_READ, volume]), 4 + 12);
        assert_eq!((response.status, &response.items[..]), (OK, &scale[..12]));
    }
    assert_eq!(
        card.request(&words(&[TLV_READ, MASTER_SWITCH]), 64).status,
        NOT_SUPP
    );
}

#[test]
fn a_driver_that_does_not_accept_elements_is_told_of_none() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for request in [CTL_INFO, ENUM_ITEMS, READ, TLV_READ, TLV_WRITE, TLV_COMMAND] {
        let response = card.request(&words(&[request, 0, 1, INFO_BYTES]), 600);
        assert_eq!(
            (response.status, response.length),
            (NOT_SUPP, 4),
            "{request:#x}"
        );
    }
    assert_eq!(card.set_control(MASTER_VOLUME, &[0; 8]), NOT_SUPP);
    card.expect_service();
}

#[test]
fn values_are_kept_over_a_reset_and_a_new_connection() {
    let device = Device::null();
    let mut card = mixer(&device);
    let values = [1, 2, 3, 4, 5, 6, 7, 8];
    card.must_set_control(MASTER_VOLUME, &values);
    card.must_set_control(CAPTURE_SWITCH, &[0]);
    card.expect_service();
    card.reset();
    assert_eq!(card.control(MASTER_VOLUME), values);
    card.detach();
    card.reattach(device.connect());
    assert_eq!(card.control(MASTER_VOLUME), values);
    drop(card);
    let mut card = mixer(&device);
    assert_eq!(
        (card.control(MASTER_VOLUME), card.control(CAPTURE_SWITCH)),
        (values, [0])
    );
}

#[test]
fn values_outlive_the_process_and_are_heard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.wav");
    let player = || Device::start(&["--host", "file", "--playback-file", path.to_str().unwrap()]);
    let (mut device, mut kept) = (player(), None);
    let mut card = Card::unattached([256; 4], EVENT_IDX | CTLS);
    card.reattach_keeping(device.connect(), &mut kept);
    let values = [UNITY - 6 * STEPS, 2, 3, 4, 5, 6, 7, 8];
    card.must_set_control(MASTER_VOLUME, &values);
    card.must_set_control(MASTER_SWITCH, &[0]);
    device.end_by(Signal::SIGKILL);
    card.detach();
    device = player();
    card.reattach_keeping(device.connect(), &mut kept);
    assert_eq!(card.control(MASTER_VOLUME), values);
    assert_eq!(card.control(MASTER_SWITCH), [0]);
    card.must_set_control(MASTER_SWITCH, &[1]);
    let played = noise(8 * 160, 41);
    card.play(0, &MONO, &played);
    expect_louder(&heard(&path), &samples(&played), -6.0);
}

#[test]
fn wrong_values_are_refused_and_change_nothing() {
    let device = Device::null();
    let mut card = mixer(&device);
    card.must_set_control(MASTER_VOLUME, &[100; 8]);
    for wrong in [UNITY + 1, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        for place in 0..8 {
            let mut values = [7; 8];
            values[place] = wrong;
            assert_eq!(card.set_control(MASTER_VOLUME, &values), BAD_MSG);
        }
        assert_eq!(card.control(MASTER_VOLUME), [100; 8]);
    }
    for wrong in [2, u32::MAX] {
        assert_eq!(card.set_control(MASTER_SWITCH, &[wrong]), BAD_MSG);
    }
    // What lies behind the element's values is nobody's.
    let mut values = [u32::MAX; 128];
    values[..8].fill(5);
    card.must_set_control(MASTER_VOLUME, &values);
    assert_eq!(card.control(MASTER_VOLUME), [5, 5, 5, 5, 5, 5, 5, 5, 0, 0]);
}

#[test]
fn elements_that_do_not_exist_are_bad_messages() {
    let device = Device::null();
    let mut card = mixer(&device);
    for id in [4, 5, 0xffff, 0x8000_0000, u32::MAX] {
        for code in [ENUM_ITEMS, READ, TLV_READ, TLV_WRITE, TLV_COMMAND] {
            let response = card.request(&words(&[code, id, 1, 0]), 600);
            assert_eq!(
                (response.status, response.length),
                (BAD_MSG, 4),
                "{code:#x} {id}"
            );
        }
        assert_eq!(card.set_control(id, &[0]), BAD_MSG);
        assert_eq!(card.query(CTL_INFO, id, 1, INFO_BYTES).status, BAD_MSG);
    }
    for (start, count, size) in [
        (0, 0, INFO_BYTES),
        (0, 5, INFO_BYTES),
        (3, 2, INFO_BYTES),
        (1, u32::MAX, INFO_BYTES),
        (0, 4, 91),
        (0, 4, 0),
        (0, 4, u32::MAX),
        (0, 1, 0x8000_0000),
    ] {
        let response = card.request(&words(&[CTL_INFO, start, count, size]), 2000);
        assert_eq!(
            (response.status, response.length),
            (BAD_MSG, 4),
            "{start} {count} {size}"
        );
    }
    card.expect_service();
}

#[test]
fn what_an_element_has_not_is_not_supported() {
    let device = Device::null();
    let mut card = mixer(&device);
    for id in 0..4 {
        for code in [TLV_WRITE, TLV_COMMAND] {
            let mut request = words(&[code, id, 1, 3000]);
            request.resize(16 + 3000, 9);
            let response = card.request(&request, 4);
            assert_eq!((response.status, response.length), (NOT_SUPP, 4));
        }
        assert_eq!(card.request(&words(&[ENUM_ITEMS, id]), 600).status, BAD_MSG);
    }
    card.expect_service();
}

#[test]
fn a_request_cut_short_or_without_room_changes_nothing() {
    let device = Device::null();
    let mut card = mixer(&device);
    let mut write = words(&[WRITE, MASTER_VOLUME, 1, 1, 1, 1, 1, 1, 1, 1]);
    write.resize(8 + VALUE_BYTES, 0);
    for length in [4, 7, 8, 11, 39, 40, 519] {
        assert_eq!(
            card.request(&write[..length], 4).status,
            BAD_MSG,
            "{length}"
        );
    }
    assert_eq!(card.control(MASTER_VOLUME), [UNITY; 8]);
    for length in 4..8 {
        assert_eq!(
            card.request(&words(&[READ, 0])[..length], 600).status,
            BAD_MSG
        );
    }
    // Room for the values and not for the whole of the structure; then not even for them.
    let response = card.request(&words(&[READ, MASTER_VOLUME]), 4 + 40);
    assert_eq!((response.status, response.length), (OK, 44));
    for room in [4, 8, 35] {
        let response = card.request(&words(&[READ, MASTER_VOLUME]), room);
        assert_eq!((response.status, response.length), (BAD_MSG, 4), "{room}");
    }
    let response = card.request(
        &words(&[CTL_INFO, 0, 4, INFO_BYTES]),
        4 + 4 * INFO_BYTES - 1,
    );
    assert_eq!((response.status, response.length), (BAD_MSG, 4));
    card.expect_service();
}

#[test]
fn a_list_is_never_longer_than_its_items_need() {
    // Room that is larger than all memory: the same bytes, named again and again.
    let device = Device::null();
    let mut card = mixer(&device);
    let request = card.bytes(&words(&[CTL_INFO, 0, 4, 1 << 26]));
    let at = card.bytes(&[UNTOUCHED; 1 << 16]);
    let mut parts = vec![Buffer::readable(request, 16)];
    parts.extend([Buffer::writable(at, 1 << 16); 200]);
    let used = card.exchange(CONTROL, &parts);
    assert_eq!(used.length, 4);
    assert_eq!(card.memory.read(at, 4), BAD_MSG.to_le_bytes());
    card.expect_service();
}

/// One channel of S16 at 8 kHz, in periods of 10 ms.
const MONO: Params = Params {
    buffer_bytes: 640,
    period_bytes: 160,
    features: 0,
    channels: 1,
    format: S16,
    rate: RATE_8000,
};
const STEREO: Params = Params {
    buffer_bytes: 1280,
    period_bytes: 320,
    channels: 2,
    ..MONO
};

fn samples(bytes: &[u8]) -> Vec<i16> {
    let words = bytes.chunks(2);
    words
        .map(|word| i16::from_le_bytes(word.try_into().unwrap()))
        .collect()
}

/// Shows that samples are the ones that were played, so many decibels louder, to the nearest number.
fn expect_louder(found: &[i16], played: &[i16], decibels: f64) {
    assert_eq!(found.len(), played.len());
    let factor = (decibels / 20.0 * std::f64::consts::LN_10).exp();
    for (found, played) in found.iter().zip(played) {
        let off = f64::from(*found) - f64::from(*played) * factor;
        assert!(off.abs() <= 0.500_001, "{played} became {found}");
    }
}

fn heard(path: &Path) -> Vec<i16> {
    samples(&wav::read(path).1)
}

#[test]
fn a_volume_is_heard_to_the_decibel_and_0_db_is_exact() {
    for (value, decibels) in [
        (UNITY, 0.0),
        (120, -0.5),
        (109, -6.0),
        (81, -20.0),
        (1, -60.0),
    ] {
        let device = Device::player();
        let mut card = mixer(&device);
        card.must_set_control(MASTER_VOLUME, &[value; 8]);
        let played = noise(8 * 160, value.into());
        card.play(0, &MONO, &played);
        let found = heard(&device.path("out.wav"));
        expect_louder(&found, &samples(&played), decibels);
        assert!(decibels != 0.0 || found == samples(&played));
    }
}

#[test]
fn each_channel_has_its_own_volume() {
    let device = Device::player();
    let mut card = mixer(&device);
    card.must_set_control(MASTER_VOLUME, &[UNITY - 6 * STEPS, 0, 9, 9, 9, 9, 9, 9]);
    let played = noise(4 * 320, 3);
    card.play(0, &STEREO, &played);
    let played = samples(&played);
    let left: Vec<_> = played.iter().copied().step_by(2).collect();
    let found = heard(&device.path("out.wav"));
    let found_left: Vec<_> = found.iter().copied().step_by(2).collect();
    expect_louder(&found_left, &left, -6.0);
    assert!(found.iter().skip(1).step_by(2).all(|&sample| sample == 0));
}

#[test]
fn a_muted_card_plays_silence_and_keeps_its_clock() {
    let device = Device::player();
    let mut card = mixer(&device);
    card.must_set_control(MASTER_SWITCH, &[0]);
    // U8: its silence is not zero.
    card.play(0, &SMALL, &noise(800, 1));
    card.must_set_control(MASTER_SWITCH, &[1]);
    let again = noise(800, 2);
    card.play(0, &SMALL, &again);
    let (_, found) = wav::read(&device.path("out.wav"));
    assert_eq!(found[..800], [0x80; 800]);
    assert!(found[800..] == again);
}

#[test]
fn a_change_while_playing_is_a_ramp_without_a_step() {
    const LEVEL: i16 = 20_000;
    let device = Device::player();
    let mut card = mixer(&device);
    card.prepare(0, &MONO);
    let played = LEVEL.to_le_bytes().repeat(80 * 80);
    let heads = card.queue_periods(0, &played, 160);
    card.kick(TX);
    card.must(START, 0);
    for (place, head) in heads.into_iter().enumerate() {
        card.completion(TX).expect_played(head);
        match place {
            20 => card.must_set_control(MASTER_VOLUME, &[UNITY - 20 * STEPS; 8]),
            60 => card.must_set_control(MASTER_SWITCH, &[0]),
            _ => {}
        }
    }
    card.close(0);
    let found = heard(&device.path("out.wav"));
    assert_eq!(found.len(), 80 * 80);
    // 5 ms are 40 frames.
    assert_eq!(found[..80 * 20], [LEVEL; 80 * 20]);
    assert!(
        found
            .windows(2)
            .all(|pair| (0..=LEVEL / 40).contains(&(pair[0] - pair[1])))
    );
    let ramps = found.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!((60..=80).contains(&ramps), "{ramps} frames of ramps");
    assert!(found.iter().filter(|&&sample| sample == LEVEL / 10).count() > 80 * 5);
    assert_eq!(found[80 * 79..], [0; 80]);
}

fn microphone(bytes: &[u8]) -> Device {
    let folder = tempfile::tempdir().unwrap();
    wav::write(&folder.path().join("in.wav"), wav::spec(8000, 1, 16), bytes);
    Device::start_in(folder, &["--host", "file", "--capture-file", "in.wav"])
}

#[test]
fn a_capture_volume_is_heard_to_the_decibel() {
    // Longer than what is changed at once.
    let sound = noise(2 * 80 * 100, 5);
    let device = microphone(&sound);
    let mut card = mixer(&device);
    assert_eq!(card.record(0, &MONO, 4), sound[..640]);
    let long = Params {
        buffer_bytes: 32_000,
        period_bytes: 16_000,
        ..MONO
    };
    card.must_set_control(0, &[UNITY - 12 * STEPS]);
    let quiet = samples(&card.record(0, &long, 1));
    expect_louder(&quiet, &samples(&sound), -12.0);
    card.must_set_control(1, &[0]);
    assert_eq!(card.record(0, &MONO, 4), [0; 640]);
    card.must_set_control(0, &[UNITY]);
    card.must_set_control(1, &[1]);
    assert_eq!(card.record(0, &MONO, 4), sound[..640]);
}

#[test]
fn a_volume_can_be_changed_while_capturing() {
    let sound = 10_000i16.to_le_bytes().repeat(8000);
    let device = microphone(&sound);
    let mut card = mixer(&device);
    card.prepare(0, &MONO);
    let heads: Vec<_> = (0..80).map(|_| card.queue_capture(0, 160)).collect();
    card.kick(RX);
    card.must(START, 0);
    let mut found = Vec::new();
    for (place, head) in heads.into_iter().enumerate() {
        let completion = card.completion(RX);
        completion.expect_captured(head, 160);
        found.extend(samples(&completion.samples));
        if place == 4 {
            card.must_set_control(0, &[UNITY - 20 * STEPS]);
        }
    }
    card.close(0);
    assert_eq!(found[..400], [10_000; 400]);
    assert!(
        found
            .windows(2)
            .all(|pair| (0..=250).contains(&(pair[0] - pair[1])))
    );
    assert_eq!(found[80 * 79..], [1000; 80]);
}

/// `VIRTIO_SND_EVT_CTL_NOTIFY`
const NOTIFY: u32 = 0x1200;

/// Gives the device room for events; returns where.
fn offer_event_rooms(card: &mut Card, count: usize) -> Vec<(u16, u64)> {
    let rooms = (0..count).map(|_| {
        let at = card.bytes(&[UNTOUCHED; 8]);
        (card.queues[EVENT].add(&[Buffer::writable(at, 8)]), at)
    });
    rooms.collect()
}

/// The next event that is there already: control id, and what has changed.
fn next_event(card: &mut Card, rooms: &[(u16, u64)]) -> Option<(u16, u16)> {
    let used = card.queues[EVENT].take_used()?;
    assert_eq!(used.length, 8);
    let (_, at) = rooms.iter().find(|(head, _)| *head == used.head).unwrap();
    let event = card.memory.read(*at, 8);
    assert_eq!(event[..4], NOTIFY.to_le_bytes());
    let half = |at: usize| u16::from_le_bytes(event[at..at + 2].try_into().unwrap());
    Some((half(4), half(6)))
}

#[test]
fn a_change_is_told_before_its_request_is_done() {
    let device = Device::null();
    let mut card = mixer(&device);
    let rooms = offer_event_rooms(&mut card, 8);
    for (id, value) in [(MASTER_VOLUME, 60), (CAPTURE_SWITCH, 0), (MASTER_SWITCH, 0)] {
        card.must_set_control(id, &[value; 8]);
        // Only looked at, not waited for: the Linux driver's caller goes on with its answer.
        assert_eq!(next_event(&mut card, &rooms), Some((id as u16, 1)), "{id}");
        assert!(
            card.queues[EVENT].call.read().is_ok(),
            "the driver was not called"
        );
        // As a driver asks for the next call.
        let event_idx = card.queues[EVENT].avail + 4 + 2 * 256;
        let used = card.queues[EVENT].used_index_in_memory();
        card.memory.store16(event_idx, used);
        assert_eq!(next_event(&mut card, &rooms), None);
    }
}

#[test]
fn what_is_no_change_is_not_told() {
    let device = Device::null();
    let mut card = mixer(&device);
    let rooms = offer_event_rooms(&mut card, 8);
    card.must_set_control(MASTER_VOLUME, &[UNITY; 8]);
    assert_eq!(card.set_control(MASTER_VOLUME, &[UNITY + 1; 8]), BAD_MSG);
    assert_eq!(card.set_control(MASTER_SWITCH, &[2]), BAD_MSG);
    assert_eq!(card.set_control(9, &[0]), BAD_MSG);
    assert_eq!(card.control(MASTER_VOLUME), [UNITY; 8]);
    card.expect_service();
    assert_eq!(next_event(&mut card, &rooms), None);
}

#[test]
fn changes_wait_for_room_and_are_told_once() {
    let device = Device::null();
    let mut card = mixer(&device);
    for value in 1..100 {
        card.must_set_control(MASTER_VOLUME, &[value; 8]);
        card.must_set_control(CAPTURE_VOLUME, &[value; 8]);
    }
    let rooms = offer_event_rooms(&mut card, 8);
    // The driver does not kick for room; the device looks when it is awake.
    card.expect_service();
    let told: Vec<_> = std::iter::from_fn(|| next_event(&mut card, &rooms)).collect();
    assert_eq!(
        told,
        [(MASTER_VOLUME as u16, 1), (CAPTURE_VOLUME as u16, 1)]
    );
}

/// A card whose two volumes act on one stream; the first can make it louder.
const TWO_VOLUMES: &str = r#"
[[stream]]
direction = "playback"
host = "file"
file = "out.wav"

[[control]]
name = "Master Playback Volume"
kind = "volume"
range-db = [-60, 20]

[[control]]
name = "Zone Playback Volume"
kind = "volume"
"#;

fn two_volumes() -> Device {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("card.toml"), TWO_VOLUMES).unwrap();
    Device::start_in(folder, &["--card", "card.toml"])
}

#[test]
fn volumes_of_one_stream_multiply() {
    let device = two_volumes();
    let mut card = mixer(&device);
    assert_eq!(infos(&mut card, 2)[0].range, [0, 161, 0]);
    card.must_set_control(0, &[UNITY + 6 * STEPS; 8]);
    card.must_set_control(1, &[UNITY - 18 * STEPS; 8]);
    let played = noise(8 * 160, 11);
    card.play(0, &MONO, &played);
    expect_louder(&heard(&device.path("out.wav")), &samples(&played), -12.0);
}

#[test]
fn what_becomes_too_loud_is_limited() {
    let device = two_volumes();
    let mut card = mixer(&device);
    card.must_set_control(0, &[UNITY + 20 * STEPS; 8]);
    let played = noise(8 * 160, 12);
    card.play(0, &MONO, &played);
    let found = heard(&device.path("out.wav"));
    for (found, played) in found.iter().zip(samples(&played)) {
        let wanted = (i32::from(played) * 10).clamp(i16::MIN.into(), i16::MAX.into());
        assert!(
            (i32::from(*found) - wanted).abs() <= 1,
            "{played} became {found}"
        );
    }
}

#[test]
fn every_format_has_a_volume() {
    // What a format's numbers stand for is checked where the samples are changed.
    let quiet = UNITY - 20 * STEPS;
    for (format, bytes) in [(U8, 1), (S24_3, 3), (S32, 4)] {
        let device = Device::player();
        let mut card = mixer(&device);
        card.must_set_control(MASTER_VOLUME, &[quiet; 8]);
        let params = Params {
            buffer_bytes: 640 * bytes,
            period_bytes: 80 * bytes,
            format,
            ..SMALL
        };
        // A tenth of a number with these upper bytes, whatever lies below.
        let (loud, soft) = if format == U8 {
            (0x80 + 100, 0x80 + 10)
        } else {
            (100, 10)
        };
        let mut sample = vec![0; bytes as usize];
        *sample.last_mut().unwrap() = loud;
        card.play(0, &params, &sample.repeat(80 * 4));
        let (_, found) = wav::read(&device.path("out.wav"));
        *sample.last_mut().unwrap() = soft;
        assert_eq!(found, sample.repeat(80 * 4), "format {format}");
    }
}
