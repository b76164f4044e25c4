// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a jack looks like to the driver: a pin of the High Definition Audio specification, from which
//! Linux takes the name and the type of the jack.

use crate::description::{Jack, JackKind};
use crate::wire::JackInfo;

/// Pin default configuration (HDA 7.3.3.31): each jack is independent of all others.
const INDEPENDENT: u32 = 0xf << 4;
/// Location: on an HDMI connector. Others are anywhere on the outside.
const ON_HDMI: u32 = 0x18 << 24;

/// Pin capabilities (HDA 7.3.4.9).
const PRESENCE_DETECT: u32 = 1 << 2;
const HEADPHONE_DRIVE: u32 = 1 << 3;
const OUTPUT: u32 = 1 << 4;
const INPUT: u32 = 1 << 5;
const HDMI: u32 = 1 << 7;

/// Default device, connection type and capabilities of a kind, and where it is.
fn pin(kind: JackKind) -> (u32, u32, u32, u32) {
    // Connection types: 1 is 3.5 mm, 4 RCA, 5 optical, 6 other digital, 7 other analogue.
    match kind {
        JackKind::LineOut => (0x0, 1, OUTPUT, 0),
        JackKind::Speaker => (0x1, 7, OUTPUT, 0),
        JackKind::Headphone => (0x2, 1, OUTPUT | HEADPHONE_DRIVE, 0),
        JackKind::Cd => (0x3, 7, INPUT, 0),
        JackKind::SpdifOut => (0x4, 5, OUTPUT, 0),
        JackKind::HdmiOut => (0x5, 6, OUTPUT | HDMI, ON_HDMI),
        JackKind::LineIn => (0x8, 1, INPUT, 0),
        JackKind::Aux => (0x9, 1, INPUT, 0),
        JackKind::Microphone => (0xa, 1, INPUT, 0),
        JackKind::SpdifIn => (0xc, 5, INPUT, 0),
        JackKind::DigitalIn => (0xd, 6, INPUT, 0),
    }
}

/// The jack as JACK_INFO tells it.
pub fn describe(jack: &Jack) -> JackInfo {
    let (device, connection, caps, location) = pin(jack.kind);
    JackInfo {
        device: 0,
        defconf: location | device << 20 | connection << 16 | INDEPENDENT,
        caps: caps | PRESENCE_DETECT,
        connected: jack.plugged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUTS: [JackKind; 5] = [
        JackKind::LineOut,
        JackKind::Speaker,
        JackKind::Headphone,
        JackKind::SpdifOut,
        JackKind::HdmiOut,
    ];

    #[test]
    fn every_kind_has_a_pin_of_its_own_with_a_direction() {
        let mut seen = Vec::new();
        for (kind, name) in JackKind::ALL {
            let jack = Jack {
                kind,
                plugged: true,
                follow: None,
            };
            let info = describe(&jack);
            assert!(info.connected);
            let device = info.defconf >> 20 & 0xf;
            assert!(!seen.contains(&device), "{name}");
            seen.push(device);
            let direction = (info.caps & OUTPUT != 0, info.caps & INPUT != 0);
            let output = OUTPUTS.contains(&kind);
            assert_eq!(direction, (output, !output), "{name}");
        }
    }

    #[test]
    fn a_headphone_jack_is_what_linux_calls_so() {
        let jack = Jack {
            kind: JackKind::Headphone,
            plugged: false,
            follow: None,
        };
        let info = describe(&jack);
        // AC_JACK_HP_OUT, 3.5 mm, connected by a jack.
        assert_eq!(info.defconf, 0x0021_00f0);
        assert!(!info.connected);
    }
}
