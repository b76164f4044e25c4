// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The life of a PCM stream (virtio 1.3, 5.14.6.6.1), pure: no queue, no host, no clock.

use crate::pcm_format::{self, Format};
use crate::time::{frames, time};
use crate::wire::{PcmInfo, RawParams, Status};

/// Where a stream is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No parameters yet.
    Idle,
    /// Parameters are chosen.
    ParametersSet,
    /// Ready to start; messages may be queued.
    Prepared,
    /// The clock runs.
    Running,
    /// The clock stands; messages are kept.
    Stopped,
    /// Everything is given back; the parameters are still valid.
    Released,
}

/// What a driver asks of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `VIRTIO_SND_R_PCM_SET_PARAMS`
    SetParams,
    /// `VIRTIO_SND_R_PCM_PREPARE`
    Prepare,
    /// `VIRTIO_SND_R_PCM_START`
    Start,
    /// `VIRTIO_SND_R_PCM_STOP`
    Stop,
    /// `VIRTIO_SND_R_PCM_RELEASE`
    Release,
}

impl State {
    /// The state after `event`; `None` where the driver may not ask that now.
    ///
    /// Wider than the specification's diagram where the Linux driver is: it leaves out RELEASE
    /// when no message is pending, so SET_PARAMS and PREPARE also come in `Stopped`, and it sends
    /// RELEASE to a stream that has been released already.
    pub fn after(self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::Running, Event::Stop) => Some(Self::Stopped),
            (Self::Running, _) => None,
            (_, Event::SetParams) => Some(Self::ParametersSet),
            (Self::Idle, _) => None,
            (_, Event::Prepare) => Some(Self::Prepared),
            (_, Event::Release) => Some(Self::Released),
            (Self::Prepared | Self::Stopped, Event::Start) => Some(Self::Running),
            (_, Event::Start | Event::Stop) => None,
        }
    }

    /// Whether I/O messages are taken and kept; in any other state they are answered at once.
    pub fn takes_messages(self) -> bool {
        matches!(self, Self::Prepared | Self::Running | Self::Stopped)
    }
}

/// The parameters of a stream, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Sample format.
    pub format: Format,
    /// Frames per second.
    pub rate: u32,
    /// Samples per frame, at least 1.
    pub channels: u8,
    /// Bytes of the driver's buffer, a multiple of `period_bytes`.
    pub buffer_bytes: u32,
    /// Bytes of one period, a multiple of a frame.
    pub period_bytes: u32,
    /// The features that the driver has selected, of those that its stream offers.
    pub features: u32,
}

impl Params {
    /// Checks the driver's parameters against what the stream offers (5.14.6.6.3).
    ///
    /// # Errors
    /// `NotSupported` for a feature, format, rate or number of channels that is not offered;
    /// `BadMessage` for sizes that do not fit together.
    pub fn check(raw: &RawParams, offered: &PcmInfo) -> Result<Self, Status> {
        let format = Format::from_wire(raw.format).ok_or(Status::NotSupported)?;
        let rate = pcm_format::rate_from_wire(raw.rate).ok_or(Status::NotSupported)?;
        let channels = offered.channels_min.max(1)..=offered.channels_max;
        if raw.features & !offered.features != 0
            || offered.formats & format.bit() == 0
            || offered.rates & pcm_format::rate_bit(rate) == 0
            || !channels.contains(&raw.channels)
        {
            return Err(Status::NotSupported);
        }
        let params = Self {
            format,
            rate,
            channels: raw.channels,
            buffer_bytes: raw.buffer_bytes,
            period_bytes: raw.period_bytes,
            features: raw.features,
        };
        let multiple = |whole: u32, part: u32| whole != 0 && whole.checked_rem(part) == Some(0);
        if !multiple(raw.period_bytes, params.frame_bytes())
            || !multiple(raw.buffer_bytes, raw.period_bytes)
        {
            return Err(Status::BadMessage);
        }
        Ok(params)
    }

    /// As the driver has sent them.
    pub fn raw(&self) -> RawParams {
        RawParams {
            buffer_bytes: self.buffer_bytes,
            period_bytes: self.period_bytes,
            features: self.features,
            channels: self.channels,
            format: self.format.wire,
            // Checked parameters have a rate that virtio knows.
            rate: pcm_format::rate_to_wire(self.rate).unwrap_or(u8::MAX),
        }
    }

    /// Bytes of one frame, at least 1.
    pub fn frame_bytes(&self) -> u32 {
        (u32::from(self.format.bytes) * u32::from(self.channels)).max(1)
    }

    /// Whole frames in `time` nanoseconds.
    pub fn frames_in(&self, time: u64) -> u64 {
        frames(time, self.rate.into())
    }

    /// The time that `bytes` bytes of samples take, in nanoseconds.
    pub fn nanos(&self, bytes: u32) -> u64 {
        time((bytes / self.frame_bytes()).into(), self.rate.into())
    }

    /// Frames of one period, at least 1.
    pub fn period_frames(&self) -> u64 {
        u64::from(self.period_bytes / self.frame_bytes()).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{self, Direction};

    const EVENTS: [Event; 5] = [
        Event::SetParams,
        Event::Prepare,
        Event::Start,
        Event::Stop,
        Event::Release,
    ];

    #[test]
    fn every_edge() {
        use State::{Idle, ParametersSet, Prepared, Released, Running, Stopped};
        let (set, prep, run, stop, rel) = (
            Some(ParametersSet),
            Some(Prepared),
            Some(Running),
            Some(Stopped),
            Some(Released),
        );
        // In the order of EVENTS.
        let table = [
            (Idle, [set, None, None, None, None]),
            (ParametersSet, [set, prep, None, None, rel]),
            (Prepared, [set, prep, run, None, rel]),
            (Running, [None, None, None, stop, None]),
            (Stopped, [set, prep, run, None, rel]),
            (Released, [set, prep, None, None, rel]),
        ];
        for (state, expected) in table {
            for (event, after) in EVENTS.into_iter().zip(expected) {
                assert_eq!(state.after(event), after, "{event:?} in {state:?}");
            }
        }
    }

    #[test]
    fn messages_are_kept_only_between_prepare_and_release() {
        use State::{Idle, ParametersSet, Prepared, Released, Running, Stopped};
        let keeps = [Prepared, Running, Stopped];
        for state in [Idle, ParametersSet, Prepared, Running, Stopped, Released] {
            assert_eq!(state.takes_messages(), keeps.contains(&state));
        }
    }

    const OFFERED: PcmInfo = PcmInfo {
        device: 0,
        formats: 1 << 5,
        rates: 1 << 7,
        direction: Direction::Playback,
        channels_min: 1,
        channels_max: 2,
        features: wire::PCM_EVT_XRUNS | wire::PCM_MSG_POLLING,
    };
    const RAW: RawParams = RawParams {
        buffer_bytes: 4096,
        period_bytes: 1024,
        features: 0,
        channels: 2,
        format: 5,
        rate: 7,
    };

    #[test]
    fn good_parameters_are_taken() {
        let params = Params::check(&RAW, &OFFERED).unwrap();
        assert_eq!(
            (params.rate, params.frame_bytes(), params.period_bytes),
            (48_000, 4, 1024)
        );
    }

    #[test]
    fn what_is_not_offered_is_not_supported() {
        let wrong = [
            RawParams { features: 1, ..RAW },
            RawParams { format: 4, ..RAW },
            RawParams { format: 0, ..RAW },
            RawParams { format: 64, ..RAW },
            RawParams { format: 255, ..RAW },
            RawParams { rate: 6, ..RAW },
            RawParams { rate: 255, ..RAW },
            RawParams { channels: 0, ..RAW },
            RawParams { channels: 3, ..RAW },
        ];
        for raw in wrong {
            assert_eq!(
                Params::check(&raw, &OFFERED),
                Err(Status::NotSupported),
                "{raw:?}"
            );
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_bad_messages() {
        let wrong = [
            RawParams {
                period_bytes: 0,
                ..RAW
            },
            RawParams {
                period_bytes: 1022,
                ..RAW
            },
            RawParams {
                buffer_bytes: 0,
                ..RAW
            },
            RawParams {
                buffer_bytes: 512,
                ..RAW
            },
            RawParams {
                buffer_bytes: 4095,
                ..RAW
            },
        ];
        for raw in wrong {
            assert_eq!(
                Params::check(&raw, &OFFERED),
                Err(Status::BadMessage),
                "{raw:?}"
            );
        }
    }
}
