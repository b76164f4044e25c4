// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! SET_PARAMS (virtio 1.3, 5.14.6.6.3): what is offered is taken, anything else gets a status.

use crate::card::Card;
use crate::device::Device;
use crate::sound::*;

#[test]
fn everything_that_is_offered_is_taken() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for (stream, info) in (0..).zip(card.pcm_infos(2)) {
        for format in (0..64).filter(|format| info.formats >> format & 1 == 1) {
            for rate in (0..64).filter(|rate| info.rates >> rate & 1 == 1) {
                // A multiple of every frame there is.
                let period_bytes = 3 * 8 * 840;
                let params = Params {
                    buffer_bytes: 4 * period_bytes,
                    period_bytes,
                    channels: info.channels.1,
                    format,
                    rate,
                    ..SMALL
                };
                assert_eq!(card.set_params(stream, &params), OK, "{params:?}");
            }
        }
    }
}

#[test]
fn what_is_not_offered_is_not_supported() {
    let device = Device::start(&["--formats", "U8", "--rates", "8000", "--channels", "1-2"]);
    let mut card = Card::attach(&device);
    assert_eq!(card.set_params(0, &SMALL), OK);
    let unsupported = [
        Params {
            format: S16,
            ..SMALL
        },
        Params { format: 0, ..SMALL },
        Params {
            format: 25,
            ..SMALL
        },
        Params {
            format: 63,
            ..SMALL
        },
        Params {
            format: 64,
            ..SMALL
        },
        Params {
            format: 68,
            ..SMALL
        },
        Params {
            format: 255,
            ..SMALL
        },
        Params {
            rate: RATE_48000,
            ..SMALL
        },
        Params { rate: 14, ..SMALL },
        Params { rate: 64, ..SMALL },
        Params { rate: 65, ..SMALL },
        Params { rate: 255, ..SMALL },
        Params {
            channels: 0,
            ..SMALL
        },
        Params {
            channels: 3,
            ..SMALL
        },
        Params {
            channels: 200,
            ..SMALL
        },
        Params {
            channels: 255,
            ..SMALL
        },
        Params {
            features: 1,
            ..SMALL
        },
        Params {
            features: u32::MAX,
            ..SMALL
        },
    ];
    for params in unsupported {
        for stream in [0, 1] {
            assert_eq!(card.set_params(stream, &params), NOT_SUPP, "{params:?}");
        }
    }
    card.expect_service();
}

#[test]
fn sizes_that_do_not_fit_together_are_bad_messages() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let wide = Params {
        channels: 2,
        format: S16,
        ..SMALL
    };
    let wrong = [
        Params {
            period_bytes: 0,
            ..SMALL
        },
        Params {
            buffer_bytes: 0,
            ..SMALL
        },
        Params {
            buffer_bytes: 0,
            period_bytes: 0,
            ..SMALL
        },
        Params {
            buffer_bytes: 100,
            ..SMALL
        },
        Params {
            buffer_bytes: 40,
            ..SMALL
        },
        Params {
            buffer_bytes: u32::MAX,
            ..SMALL
        },
        Params {
            period_bytes: 82,
            buffer_bytes: 164,
            ..wide
        },
        Params {
            period_bytes: 2,
            buffer_bytes: 4,
            ..wide
        },
    ];
    for params in wrong {
        assert_eq!(card.set_params(0, &params), BAD_MSG, "{params:?}");
    }
    card.expect_service();
}

#[test]
fn parameters_that_were_refused_change_nothing() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    assert_eq!(
        card.set_params(
            0,
            &Params {
                format: 255,
                ..SMALL
            }
        ),
        NOT_SUPP
    );
    // Still prepared with the old ones.
    card.must(START, 0);
    let head = card.queue_playback(0, &[1; 80]);
    card.kick(crate::card::TX);
    card.completion(crate::card::TX).expect_played(head);
    card.close(0);
}

#[test]
fn the_largest_sizes_need_no_memory_of_their_own() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    let period_bytes = 1 << 31;
    let huge = Params {
        buffer_bytes: period_bytes,
        period_bytes,
        ..SMALL
    };
    card.prepare(0, &huge);
    card.must(START, 0);
    card.close(0);
    card.expect_service();
}
