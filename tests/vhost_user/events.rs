// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the device tells by itself: jacks that are plugged by command, and lost sound (virtio 1.3,
//! 5.14.6.5 and 5.14.6.7).

use std::collections::HashMap;
use std::time::Duration;

use crate::card::{Card, EVENT, RX, TX, UNTOUCHED};
use crate::commands::{COMMANDS, tell};
use crate::device::Device;
use crate::driver::{Buffer, Used};
use crate::frontend::EVENT_IDX;
use crate::sound::*;

pub const JACK_CONNECTED: u32 = 0x1000;
const JACK_DISCONNECTED: u32 = 0x1001;
const XRUN: u32 = 0x1101;

/// A card with three jacks, and one stream of each direction.
pub const CARD: &str = "\
controls = 'none'
[[stream]]
direction = 'playback'
host = 'null'
[[stream]]
direction = 'capture'
host = 'null'
[[jack]]
kind = 'headphone'
plugged = false
[[jack]]
kind = 'microphone'
plugged = true
[[jack]]
kind = 'line-out'
plugged = false
";

/// A device with that card, and a command socket.
pub fn device() -> Device {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("card.toml"), CARD).unwrap();
    Device::start_in(
        folder,
        &["--card", "card.toml", "--command-socket", COMMANDS],
    )
}

/// The event queue's room.
#[derive(Default)]
pub struct Rooms(HashMap<u16, u64>);

impl Rooms {
    pub fn add(&mut self, card: &mut Card, count: usize) {
        for _ in 0..count {
            self.add_of(card, 8);
        }
    }

    fn add_of(&mut self, card: &mut Card, length: u32) {
        let at = card.bytes(&[UNTOUCHED; 16]);
        let head = card.queues[EVENT].add(&[Buffer::writable(at, length)]);
        self.0.insert(head, at);
    }

    /// The next event, as code and data, which an interrupt has to announce.
    pub fn next(&mut self, card: &mut Card) -> (u32, u32) {
        let used = card.queues[EVENT].wait_used();
        self.read(card, used)
            .expect("room that is fit for an event came back empty")
    }

    fn read(&mut self, card: &Card, used: Used) -> Option<(u32, u32)> {
        let at = self.0.remove(&used.head).unwrap();
        let bytes = card.memory.read(at, 16);
        let written = used.length as usize;
        assert_eq!(bytes[written..], [UNTOUCHED; 16][written..]);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        (written == 8).then(|| (word(0), word(4)))
    }

    /// Those that came since the last time.
    fn all(&mut self, card: &mut Card) -> Vec<(u32, u32)> {
        let mut events = Vec::new();
        while let Some(used) = card.queues[EVENT].take_used() {
            events.extend(self.read(card, used));
        }
        events
    }
}

/// A driver that has asked what there is, and uses the card.
fn attach(device: &Device, features: u64) -> Card {
    let mut card = Card::attach_with(device, [256; 4], features);
    set_up(&mut card);
    card
}

pub fn set_up(card: &mut Card) {
    assert_eq!(card.query(JACK_INFO, 0, 3, JACK_INFO_BYTES).status, OK);
    assert_eq!(card.pcm_infos(2).len(), 2);
    card.prepare(0, &SMALL);
    card.must(RELEASE, 0);
}

pub fn plug(device: &Device, jack: &str, plugged: bool) {
    let state = if plugged { "plugged" } else { "unplugged" };
    let (status, output) = tell(device, &["jack", jack, state]);
    assert!(status && output.trim_end().ends_with(state), "{output}");
}

#[test]
fn jacks_are_described_as_the_linux_driver_names_them() {
    let device = device();
    let mut card = Card::attach(&device);
    assert_eq!(card.frontend.as_mut().unwrap().config(0, 4), [3, 0, 0, 0]);
    plug(&device, "0", true);
    let response = card.query(JACK_INFO, 0, 3, JACK_INFO_BYTES);
    assert_eq!(
        (response.status, response.length),
        (OK, 4 + 3 * JACK_INFO_BYTES)
    );
    // Default devices of the High Definition Audio specification: headphone, microphone, line out.
    for (item, (kind, output, plugged)) in response.items.chunks(JACK_INFO_BYTES as usize).zip([
        (2, true, 1),
        (0xa, false, 1),
        (0, true, 0),
    ]) {
        let word = |at: usize| u32::from_le_bytes(item[at..at + 4].try_into().unwrap());
        assert_eq!((word(0), word(4)), (0, 0), "node and features");
        assert_eq!(word(8) >> 20 & 0xf, kind);
        // Presence detect, output, input.
        assert_eq!(word(12) & 0x34, if output { 0x14 } else { 0x24 });
        assert_eq!(item[16..], [plugged, 0, 0, 0, 0, 0, 0, 0]);
    }
    let part = card.query(JACK_INFO, 1, 1, JACK_INFO_BYTES);
    assert_eq!((part.status, part.items[16]), (OK, 1));
    for (start, count) in [(3, 1), (0, 4), (0, 0), (u32::MAX, 2)] {
        let wrong = card.query(JACK_INFO, start, count, JACK_INFO_BYTES);
        assert_eq!(wrong.status, BAD_MSG, "{start} {count}");
    }
}

#[test]
fn jacks_cannot_be_remapped() {
    let device = device();
    let mut card = Card::attach(&device);
    let mut remap = |words_of: &[u32]| card.request(&words(words_of), 4).status;
    assert_eq!(remap(&[JACK_REMAP, 0, 1, 1]), NOT_SUPP);
    assert_eq!(remap(&[JACK_REMAP, 3, 1, 1]), BAD_MSG);
    assert_eq!(remap(&[JACK_REMAP, u32::MAX, 1, 1]), BAD_MSG);
    assert_eq!(remap(&[JACK_REMAP, 0, 1]), BAD_MSG);
}

#[test]
fn a_jack_that_is_plugged_is_told_at_once() {
    for features in [0, EVENT_IDX] {
        let device = device();
        let mut card = attach(&device, features);
        let mut rooms = Rooms::default();
        // Nobody kicks for them.
        rooms.add(&mut card, 8);
        for (jack, id, plugged) in [
            ("headphone", 0, true),
            ("microphone", 1, false),
            ("headphone", 0, false),
            ("2", 2, true),
        ] {
            plug(&device, jack, plugged);
            let code = if plugged {
                JACK_CONNECTED
            } else {
                JACK_DISCONNECTED
            };
            assert_eq!(rooms.next(&mut card), (code, id));
        }
        // It is as it was.
        plug(&device, "2", true);
        card.expect_service();
        assert_eq!(rooms.all(&mut card), []);
    }
}

#[test]
fn a_jack_that_is_plugged_before_there_is_room_is_told_when_there_is() {
    for features in [0, EVENT_IDX] {
        let device = device();
        let mut card = attach(&device, features);
        let mut rooms = Rooms::default();
        plug(&device, "headphone", true);
        // Now the device wants a kick for room.
        card.pcm_infos(1);
        let before = card.queues[EVENT].kicks;
        rooms.add(&mut card, 2);
        card.kick(EVENT);
        assert_eq!(card.queues[EVENT].kicks, before + 1);
        assert_eq!(rooms.next(&mut card), (JACK_CONNECTED, 0));
        // Now it does not.
        card.pcm_infos(1);
        rooms.add(&mut card, 2);
        card.kick(EVENT);
        assert_eq!(card.queues[EVENT].kicks, before + 1);
    }
}

#[test]
fn a_driver_that_sets_itself_up_is_not_told() {
    let device = device();
    let mut card = Card::attach(&device);
    let mut rooms = Rooms::default();
    rooms.add(&mut card, 4);
    card.kick(EVENT);
    plug(&device, "headphone", true);
    assert_eq!(rooms.all(&mut card), []);
    let response = card.query(JACK_INFO, 0, 3, JACK_INFO_BYTES);
    assert_eq!(response.items[16], 1);
    // It could not tell this from what it was told before.
    plug(&device, "headphone", false);
    assert_eq!(rooms.all(&mut card), []);
    card.pcm_infos(2);
    assert_eq!(rooms.next(&mut card), (JACK_DISCONNECTED, 0));
}

#[test]
fn a_driver_that_slept_and_asks_nothing_is_told_of_all_jacks() {
    let device = device();
    let mut card = attach(&device, EVENT_IDX);
    card.reset();
    plug(&device, "headphone", true);
    let mut rooms = Rooms::default();
    rooms.add(&mut card, 4);
    let mut told: Vec<_> = (0..3).map(|_| rooms.next(&mut card)).collect();
    told.sort_unstable();
    let jacks = [
        (JACK_CONNECTED, 0),
        (JACK_CONNECTED, 1),
        (JACK_DISCONNECTED, 2),
    ];
    assert_eq!(told, jacks);
}

#[test]
fn a_flood_of_changes_becomes_one_event_and_is_not_heard() {
    let device = device();
    let mut card = attach(&device, EVENT_IDX);
    card.prepare(0, &SMALL);
    let samples = noise(80 * 60, 1);
    let heads = card.queue_periods(0, &samples, 80);
    card.kick(TX);
    card.must(START, 0);
    let mut client = crate::commands::Client::connect(&device);
    for turn in 0..500 {
        let plugged = turn % 2 == 0;
        let command = format!("{{\"command\":\"jack\",\"jack\":\"0\",\"plugged\":{plugged}}}");
        assert!(client.say(&command).contains("\"plugged\""), "{command}");
    }
    plug(&device, "headphone", true);
    for head in heads {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
    let mut rooms = Rooms::default();
    rooms.add(&mut card, 16);
    card.kick(EVENT);
    assert_eq!(rooms.next(&mut card), (JACK_CONNECTED, 0));
    card.expect_service();
    assert_eq!(rooms.all(&mut card), []);
    assert!(!device.log().contains("gaps"), "{}", device.log());
}

#[test]
fn room_that_is_too_short_comes_back_empty() {
    let device = device();
    let mut card = attach(&device, EVENT_IDX);
    let mut rooms = Rooms::default();
    for length in [1, 7, 16] {
        rooms.add_of(&mut card, length);
    }
    plug(&device, "headphone", true);
    assert_eq!(card.queues[EVENT].wait_used().length, 0);
    assert_eq!(card.queues[EVENT].wait_used().length, 0);
    assert_eq!(rooms.next(&mut card), (JACK_CONNECTED, 0));
    // A chain that the driver wrote into, with room in the end.
    let at = card.bytes(&[UNTOUCHED; 24]);
    let parts = [
        Buffer::readable(at, 8),
        Buffer::writable(at + 8, 3),
        Buffer::writable(at + 11, 5),
    ];
    card.queues[EVENT].add(&parts);
    plug(&device, "headphone", false);
    assert_eq!(card.queues[EVENT].wait_used().length, 8);
    let event = card.memory.read(at + 8, 8);
    assert_eq!(event, words(&[JACK_DISCONNECTED, 0]));
    card.expect_service();
}

#[test]
fn a_broken_event_queue_disturbs_no_stream() {
    for index in [0x8000, 257, 0xffff] {
        let device = device();
        let mut card = attach(&device, EVENT_IDX);
        let ring = &card.queues[EVENT];
        card.memory.store16(ring.avail + 2, index);
        plug(&device, "headphone", true);
        card.queues[EVENT].kick_anyway();
        card.expect_service();
        plug(&device, "headphone", false);
        card.expect_service();
        card.reset();
        set_up(&mut card);
        let mut rooms = Rooms::default();
        rooms.add(&mut card, 4);
        plug(&device, "headphone", true);
        assert_eq!(rooms.next(&mut card), (JACK_CONNECTED, 0));
    }
}

#[test]
fn heads_and_places_outside_of_what_exists_are_passed_over() {
    let device = device();
    let mut card = attach(&device, EVENT_IDX);
    for head in [256, 257, 0xffff] {
        card.queues[EVENT].offer(head);
    }
    let far = [u64::MAX - 3, 1 << 60, 0xffff_ffff_ffff_fff8];
    let heads = far.map(|at| card.queues[EVENT].add(&[Buffer::writable(at, 8)]));
    let mut rooms = Rooms::default();
    rooms.add(&mut card, 1);
    plug(&device, "headphone", true);
    for head in heads {
        let used = card.queues[EVENT].wait_used();
        assert_eq!((used.head, used.length), (head, 0));
    }
    assert_eq!(rooms.next(&mut card), (JACK_CONNECTED, 0));
    card.expect_service();
}

#[test]
fn what_was_not_told_is_told_to_the_next_frontend() {
    let device = device();
    let mut card = attach(&device, EVENT_IDX);
    let mut rooms = Rooms::default();
    rooms.add(&mut card, 1);
    plug(&device, "microphone", false);
    plug(&device, "headphone", true);
    assert_eq!(rooms.next(&mut card), (JACK_DISCONNECTED, 1));
    card.detach();
    plug(&device, "2", true);
    card.reattach(device.connect());
    rooms.add(&mut card, 2);
    card.kick(EVENT);
    assert_eq!(rooms.next(&mut card), (JACK_CONNECTED, 0));
    assert_eq!(rooms.next(&mut card), (JACK_CONNECTED, 2));
    // A frontend that goes while there is room does not keep the driver from hearing.
    rooms.add(&mut card, 1);
    card.detach();
    plug(&device, "2", false);
    assert_eq!(rooms.next(&mut card), (JACK_DISCONNECTED, 2));
}

/// SMALL with XRUN events or without.
fn params(features: u32) -> Params {
    Params { features, ..SMALL }
}

/// Waits until the clock has passed what was queued.
fn run_dry() {
    std::thread::sleep(Duration::from_millis(100));
}

#[test]
fn each_hole_in_the_sound_is_told_once_when_sound_goes_on() {
    for features in [EVT_XRUNS, 0] {
        let device = device();
        let mut card = attach(&device, EVENT_IDX);
        let mut rooms = Rooms::default();
        rooms.add(&mut card, 8);
        card.prepare(0, &params(features));
        // What comes late at the start leaves no hole.
        card.must(START, 0);
        run_dry();
        for hole in 0..3 {
            let head = card.queue_playback(0, &[1; 80]);
            card.kick(TX);
            card.completion(TX).expect_played(head);
            let told = rooms.all(&mut card);
            let expected = if features == 0 || hole == 0 {
                vec![]
            } else {
                vec![(XRUN, 0)]
            };
            assert_eq!(told, expected, "hole {hole}");
            run_dry();
        }
        // The end of the sound is no hole.
        card.close(0);
        card.pcm_infos(2);
        assert_eq!(rooms.all(&mut card), []);
        let (_, status) = tell(&device, &["status"]);
        assert!(status.contains(" 2 gaps ("), "{status}");
    }
}

#[test]
fn lost_capture_is_told() {
    let device = device();
    let mut card = attach(&device, EVENT_IDX);
    let mut rooms = Rooms::default();
    rooms.add(&mut card, 8);
    card.prepare(1, &params(EVT_XRUNS));
    card.must(START, 1);
    for round in 0..3 {
        let head = card.queue_capture(1, 80);
        card.kick(RX);
        card.completion(RX).expect_captured(head, 80);
        let expected = if round == 0 { vec![] } else { vec![(XRUN, 1)] };
        assert_eq!(rooms.all(&mut card), expected, "round {round}");
        run_dry();
    }
    card.close(1);
    assert_eq!(rooms.all(&mut card), []);
}

#[test]
fn a_hole_that_could_not_be_told_does_not_trouble_the_next_sound() {
    let device = device();
    let mut card = attach(&device, EVENT_IDX);
    card.prepare(0, &params(EVT_XRUNS));
    card.must(START, 0);
    for _ in 0..2 {
        let head = card.queue_playback(0, &[1; 80]);
        card.kick(TX);
        card.completion(TX).expect_played(head);
        run_dry();
    }
    card.close(0);
    card.must(PREPARE, 0);
    card.must(START, 0);
    let mut rooms = Rooms::default();
    rooms.add(&mut card, 4);
    card.kick(EVENT);
    card.pcm_infos(2);
    assert_eq!(rooms.all(&mut card), []);
    card.close(0);
}
