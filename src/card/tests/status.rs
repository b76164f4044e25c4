// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What those hear who ask how the card is.

use super::*;
use crate::meter::decibels;

/// How the first two streams are now.
fn ask(bench: &mut Bench) -> [StreamStatus; 2] {
    let mut status = CardStatus::new(2, 0);
    bench.card.describe(&mut status, bench.time);
    [status.streams[0], status.streams[1]]
}

#[test]
fn the_delay_is_what_lies_before_the_loudspeaker_or_behind_the_microphone() {
    let mut bench = Bench::new();
    assert_eq!(ask(&mut bench).map(|stream| stream.delay), [0, 0]);
    bench.prepare(0);
    bench.prepare(1);
    // Three periods of 10 ms, 480 frames each.
    for value in 1..=3 {
        bench.play(value);
    }
    bench.capture();
    assert_eq!(ask(&mut bench)[0].delay, 0);
    for stream in [0, 1] {
        assert_eq!(bench.request(&[0x104, stream]), OK);
    }
    assert_eq!(ask(&mut bench).map(|stream| stream.delay), [1440, 0]);
    // Nobody has served the card since: time alone brings sound nearer.
    bench.time += 5 * MILLISECOND;
    assert_eq!(ask(&mut bench).map(|stream| stream.delay), [1200, 240]);
    bench.wake();
    assert_eq!(ask(&mut bench).map(|stream| stream.delay), [1200, 0]);
    bench.time += 100 * MILLISECOND;
    bench.wake();
    assert_eq!(ask(&mut bench)[0].delay, 0);
}

#[test]
fn peaks_are_those_since_the_last_question() {
    let mut bench = Bench::new();
    bench.prepare(0);
    bench.prepare(1);
    assert!(ask(&mut bench)[0].peaks.is_none());
    // The samples are 0x4040 and 0xc0c0: a little above and below half of full scale.
    bench.play(0x40);
    bench.play(0);
    bench.play(0xc0);
    for _ in 0..3 {
        bench.capture();
    }
    for stream in [0, 1] {
        assert_eq!(bench.request(&[0x104, stream]), OK);
    }
    let mut heard = Vec::new();
    for _ in 0..3 {
        bench.time += 10 * MILLISECOND;
        bench.wake();
        let found = ask(&mut bench).map(|stream| decibels(stream.peaks.unwrap()[0]));
        heard.push(found);
    }
    let [first, second, third] = heard[..] else {
        panic!("{heard:?}");
    };
    assert_eq!(
        [first[0], second[0], third[0]],
        [Some(-5.99), None, Some(-6.12)]
    );
    // The microphone counts: 479 of 32768, then 959, then 1439.
    assert_eq!(
        [first[1], second[1], third[1]],
        [Some(-36.70), Some(-30.67), Some(-27.15)]
    );
}
