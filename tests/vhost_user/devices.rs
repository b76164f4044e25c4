// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A card of several PCM devices, substreams and hosts.

use std::collections::HashMap;
use std::fs;

use crate::card::{Card, RX, TX};
use crate::device::Device;
use crate::frontend::EVENT_IDX;
use crate::sound::*;
use crate::wav;

const PERIODS: usize = 30;

/// 100 ms.
const PERIOD: usize = 800;
const LONG: Params = Params {
    buffer_bytes: 4 * PERIOD as u32,
    period_bytes: PERIOD as u32,
    ..SMALL
};

/// Two devices that write files, the first with two substreams; one that captures a file; a cable.
const CARD: &str = "
controls = 'none'
[[stream]]
direction = 'playback'
host = 'file'
file = 'a.wav'
substreams = 2
[[stream]]
direction = 'playback'
host = 'file'
file = 'b.wav'
device = 1
[[stream]]
direction = 'capture'
host = 'file'
file = 'in.wav'
device = 1
[[stream]]
direction = 'playback'
host = 'loop'
device = 2
[[stream]]
direction = 'capture'
host = 'loop'
device = 2
";

fn start(card: &str) -> Device {
    let folder = tempfile::tempdir().unwrap();
    let spoken = noise(80 * PERIODS, 9);
    wav::write(
        &folder.path().join("in.wav"),
        wav::spec(8000, 1, 8),
        &spoken,
    );
    fs::write(folder.path().join("card.toml"), card).unwrap();
    Device::start_in(folder, &["--card", "card.toml"])
}

#[test]
fn streams_of_all_devices_and_hosts_run_at_once() {
    let device = start(CARD);
    let mut card = Card::attach_with(&device, [1024; 4], EVENT_IDX);
    let sounds: Vec<_> = (0..6u8)
        .map(|seed| noise(80 * PERIODS, seed.into()))
        .collect();
    let (players, recorders) = ([0, 1, 2, 4], [3, 5]);
    let mut owner = HashMap::new();
    for stream in players.into_iter().chain(recorders) {
        card.prepare(stream, &SMALL);
    }
    for period in 0..PERIODS {
        for stream in players {
            let sound = &sounds[stream as usize][80 * period..][..80];
            card.queue_playback(stream, sound);
        }
        for stream in recorders {
            owner.insert(card.queue_capture(stream, 80), stream);
        }
    }
    card.kick(TX);
    card.kick(RX);
    // Capture first: nothing of what is played on the cable is missed.
    for stream in recorders.into_iter().chain(players) {
        card.must(START, stream);
    }
    for _ in 0..players.len() * PERIODS {
        assert_eq!(card.completion(TX).status, OK);
    }
    let mut heard: HashMap<u32, Vec<u8>> = HashMap::new();
    for _ in 0..recorders.len() * PERIODS {
        let completion = card.completion(RX);
        assert_eq!(completion.status, OK);
        heard
            .entry(owner[&completion.head])
            .or_default()
            .extend(completion.samples);
    }
    for stream in players.into_iter().chain(recorders) {
        card.close(stream);
    }
    for (name, stream) in [("a.wav", 0), ("a-2.wav", 1), ("b.wav", 2)] {
        assert!(wav::read(&device.path(name)).1 == sounds[stream], "{name}");
    }
    assert!(heard[&3] == noise(80 * PERIODS, 9), "in.wav");
    // The cable's capture starts earlier and ends earlier than its playback.
    let on_cable = &heard[&5];
    let silence = on_cable
        .iter()
        .take_while(|&&sample| sample == 0x80)
        .count();
    let sound = &on_cable[silence..];
    let start = sounds[4]
        .iter()
        .take_while(|&&sample| sample == 0x80)
        .count();
    assert!(sounds[4][start..].starts_with(sound));
}

#[test]
fn a_stream_that_cannot_go_on_stops_no_other() {
    let device = start(CARD);
    let mut card = Card::attach(&device);
    let sound = noise(80 * PERIODS, 1);
    card.prepare(0, &SMALL);
    let heads = card.queue_periods(0, &sound, 80);
    card.kick(TX);
    card.must(START, 0);
    // A folder where the second substream's file should be.
    fs::create_dir(device.path("a-2.wav")).unwrap();
    assert_eq!(card.set_params(1, &SMALL), OK);
    assert_eq!(card.ask(PREPARE, 1), 0x8003);
    for head in heads {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
    assert!(wav::read(&device.path("a.wav")).1 == sound);
    assert!(device.log().contains("stream 1: "), "{}", device.log());
}

#[test]
fn each_cable_carries_its_own_sound() {
    let ends = ["playback", "capture"].map(|direction| {
        let end = |cable, device| {
            format!(
                "[[stream]]\ndirection = '{direction}'\nhost = 'loop'\ncable = '{cable}'\n\
                 device = {device}\nsubstreams = 2\n"
            )
        };
        end('x', 0) + &end('y', 1)
    });
    let device = start(&format!("controls = 'none'\n{}", ends.concat()));
    let mut card = Card::attach_with(&device, [1024; 4], EVENT_IDX);
    let mut owner = HashMap::new();
    // Room for eight seconds: no scheduling of this test can make a stream miss the beginning.
    for stream in 0..8 {
        card.prepare(stream, &LONG);
    }
    for stream in (4..8).cycle().take(4 * 80) {
        owner.insert(card.queue_capture(stream, PERIOD), stream);
    }
    // Each stream plays one number, which is no silence.
    for stream in 0..4u8 {
        for _ in 0..3 {
            card.queue_playback(stream.into(), &[stream + 1; PERIOD]);
        }
    }
    card.kick(RX);
    card.kick(TX);
    for stream in [4, 5, 6, 7, 0, 1, 2, 3] {
        card.must(START, stream);
    }
    let mut heard = HashMap::from([4, 5, 6, 7].map(|stream| (stream, 0)));
    while heard.values().any(|&samples| samples < 3 * PERIOD) {
        let completion = card.completion(RX);
        let stream = owner[&completion.head];
        let sound = completion.samples.iter().filter(|&&sample| sample != 0x80);
        let own = u8::try_from(stream - 3).unwrap();
        assert!(
            sound.clone().all(|&sample| sample == own),
            "stream {stream}"
        );
        *heard.get_mut(&stream).unwrap() += sound.count();
    }
    assert!(heard.values().all(|&samples| samples == 3 * PERIOD));
    for stream in 0..8 {
        card.close(stream);
    }
}

#[test]
fn every_device_and_direction_has_channel_maps_of_its_own() {
    let device = start(
        "[[stream]]\ndirection = 'playback'\nhost = 'null'\nsubstreams = 2\nchannels = '1-2'\n\
         [[stream]]\ndirection = 'playback'\nhost = 'null'\ndevice = 7\n\
         channel-maps = [['FR', 'FL'], ['FL', 'FR', 'TFL', 'BRC']]\n\
         [[stream]]\ndirection = 'capture'\nhost = 'null'\ndevice = 7\nchannels = 8\n",
    );
    let mut card = Card::attach(&device);
    let response = card.query(CHMAP_INFO, 0, 5, CHMAP_INFO_BYTES);
    assert_eq!((response.status, response.length), (OK, 4 + 5 * 24));
    let maps = response.items.chunks(24).map(|map| {
        let positions = &map[6..][..usize::from(map[5])];
        assert!(map[6 + positions.len()..].iter().all(|&byte| byte == 0));
        (
            u32::from_le_bytes(map[..4].try_into().unwrap()),
            map[4],
            positions.to_vec(),
        )
    });
    let expected = [
        (0, PLAYBACK, vec![2]),
        (0, PLAYBACK, vec![3, 4]),
        (7, PLAYBACK, vec![4, 3]),
        (7, PLAYBACK, vec![3, 4, 22, 36]),
        (7, CAPTURE, vec![3, 4, 5, 6, 7, 8, 9, 10]),
    ];
    assert_eq!(maps.collect::<Vec<_>>(), expected);
    assert_eq!(
        card.query(CHMAP_INFO, 5, 1, CHMAP_INFO_BYTES).status,
        BAD_MSG
    );
}

#[test]
fn a_card_of_many_streams_describes_and_serves_them_all() {
    let device = Device::start(&["--host", "null", "--devices", "16", "--substreams", "4"]);
    let mut card = Card::attach(&device);
    let infos = card.pcm_infos(124);
    let last = infos.last().unwrap();
    assert_eq!((last.device, last.direction), (14, CAPTURE));
    assert_eq!(card.query(PCM_INFO, 127, 1, PCM_INFO_BYTES).status, OK);
    assert_eq!(card.query(PCM_INFO, 128, 1, PCM_INFO_BYTES).status, BAD_MSG);
    card.play(63, &SMALL, &noise(2 * 80, 1));
    assert_eq!(card.record(127, &SMALL, 2), [0x80; 160]);
}
