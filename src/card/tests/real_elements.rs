// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Elements of real cards in a process that takes the place of another one.

use super::*;
use crate::area::Area;
use crate::audio::mixer::{Line, Original};
use crate::description::{Control, ControlKind, Jack, JackKind};
use crate::wire::CtlRange;

/// What a process has seen of a real card's volume and headphones, or knows while that is away.
fn originals(volume: u32, plugged: u32, away: bool) -> [Original; 2] {
    let original = |target, range, writable, value| Original {
        target,
        range,
        items: Vec::new(),
        writable,
        tlv: Vec::new(),
        values: vec![value],
        line: Arc::new(Line::new(&[value], Arc::new(EventFd::new().unwrap()))),
        away,
    };
    let range = CtlRange::Integer { max: 100, step: 1 };
    [
        original(Target::Control(0), range, true, volume),
        original(Target::Jack(0), CtlRange::Boolean, false, plugged),
    ]
}

/// A card in front of them.
fn card(originals: &[Original]) -> Card {
    let control = Control {
        name: "Master Playback Volume".to_owned(),
        index: 0,
        kind: ControlKind::Volume(-6000, 0),
        direction: Direction::Playback,
        streams: Vec::new(),
        mixer: None,
    };
    let description = Description {
        controls: vec![control],
        jacks: vec![Jack {
            kind: JackKind::Headphone,
            plugged: true,
            follow: None,
        }],
        ..Description::default()
    };
    let host = Clocked::new(Probe {
        infos: Vec::new(),
        played: std::sync::Arc::default(),
        next: 0,
    });
    let (sender, _reports) = report::channel(1).unwrap();
    Card::new(Box::new(host), &description, originals, sender)
}

/// The volume and the jack as the driver sees them.
fn seen(card: &Card) -> (u32, bool) {
    (card.elements.values(0)[0], card.jacks[0].connected)
}

#[test]
fn what_is_away_when_a_process_takes_over_is_as_it_was_and_takes_that_when_it_is_back() {
    let (message, file) = Area::create(4, SIZE, card(&[]).words()).unwrap();
    let take_over = |card: &mut Card, left| {
        let area = Area::map(&message, file.try_clone().unwrap()).unwrap();
        card.set_area(area, 0);
        card.take_over(left, 0);
    };
    let real = originals(10, 1, false);
    let mut first = card(&real);
    take_over(&mut first, false);
    // They change by themselves.
    real[0].line.tell(0, &[80]);
    real[1].line.tell(0, &[0]);
    first.follow_real_cards();
    assert_eq!(seen(&first), (80, false));

    let known = originals(10, 1, true);
    let mut second = card(&known);
    take_over(&mut second, true);
    assert_eq!(seen(&second), (80, false));
    assert_eq!(known[0].line.request(0), Some((1, vec![80])));
    assert_eq!(known[1].line.request(0), None);

    // Who has heard of it goes by that.
    let back = originals(10, 0, true);
    let mut third = card(&back);
    back[0].line.tell(0, &[30]);
    back[1].line.tell(0, &[1]);
    third.follow_real_cards();
    take_over(&mut third, true);
    assert_eq!(seen(&third), (30, true));
    assert_eq!(back[0].line.request(0), None);

    let mut fourth = card(&originals(10, 1, true));
    take_over(&mut fourth, true);
    assert_eq!(seen(&fourth), (30, true));
}
