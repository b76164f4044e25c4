// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a virtio_snd driver says (virtio 1.3, 5.14.6), with the numbers of the specification.

use crate::card::{Card, Completion, RX, Response, STATUS_BYTES, TX};

pub const OK: u32 = 0x8000;
pub const BAD_MSG: u32 = 0x8001;
pub const NOT_SUPP: u32 = 0x8002;

pub const JACK_INFO: u32 = 1;
pub const JACK_REMAP: u32 = 2;
pub const PCM_INFO: u32 = 0x100;
pub const SET_PARAMS: u32 = 0x101;
pub const PREPARE: u32 = 0x102;
pub const RELEASE: u32 = 0x103;
pub const START: u32 = 0x104;
pub const STOP: u32 = 0x105;
pub const CHMAP_INFO: u32 = 0x200;

/// Bytes of `virtio_snd_pcm_info`, `virtio_snd_jack_info` and `virtio_snd_chmap_info`.
pub const PCM_INFO_BYTES: u32 = 32;
pub const JACK_INFO_BYTES: u32 = 24;
pub const CHMAP_INFO_BYTES: u32 = 24;

/// `1 << VIRTIO_SND_PCM_F_MSG_POLLING` and `1 << VIRTIO_SND_PCM_F_EVT_XRUNS`.
pub const MSG_POLLING: u32 = 1 << 2;
pub const EVT_XRUNS: u32 = 1 << 4;

pub const PLAYBACK: u8 = 0;
pub const CAPTURE: u8 = 1;

/// `VIRTIO_SND_PCM_FMT_*`
pub const U8: u8 = 4;
pub const S16: u8 = 5;
pub const S24_3: u8 = 11;
pub const S24: u8 = 15;
pub const S32: u8 = 17;
/// `VIRTIO_SND_PCM_RATE_*`
pub const RATE_8000: u8 = 1;
pub const RATE_44100: u8 = 6;
pub const RATE_48000: u8 = 7;

/// The words of a message, little endian.
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// `struct virtio_snd_pcm_set_params` without its header.
#[derive(Clone, Copy, Debug)]
pub struct Params {
    pub buffer_bytes: u32,
    pub period_bytes: u32,
    pub features: u32,
    pub channels: u8,
    pub format: u8,
    pub rate: u8,
}

/// 10 ms of one byte a frame: the cheapest sound there is.
pub const SMALL: Params = Params {
    buffer_bytes: 320,
    period_bytes: 80,
    features: 0,
    channels: 1,
    format: U8,
    rate: RATE_8000,
};

impl Params {
    /// The request for a stream.
    pub fn request(&self, stream: u32) -> Vec<u8> {
        let sizes = [self.buffer_bytes, self.period_bytes, self.features];
        let mut request = words(&[SET_PARAMS, stream]);
        request.extend(words(&sizes));
        request.extend([self.channels, self.format, self.rate, 0]);
        request
    }
}

/// `struct virtio_snd_pcm_info`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcmInfo {
    pub device: u32,
    pub features: u32,
    pub formats: u64,
    pub rates: u64,
    pub direction: u8,
    pub channels: (u8, u8),
}

impl PcmInfo {
    fn decode(item: &[u8]) -> Self {
        let word = |at: usize| u64::from_le_bytes(item[at..at + 8].try_into().unwrap());
        assert_eq!(item[27..], [0; 5], "padding");
        Self {
            device: word(0) as u32,
            features: (word(0) >> 32) as u32,
            formats: word(8),
            rates: word(16),
            direction: item[24],
            channels: (item[25], item[26]),
        }
    }
}

/// Sound that repeats nowhere near: the same bytes for the same seed.
pub fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

impl Card {
    /// A query of `count` items of `item_bytes` bytes from `start` on, with room for them.
    pub fn query(&mut self, code: u32, start: u32, count: u32, item_bytes: u32) -> Response {
        let room = 4 + count.saturating_mul(item_bytes).min(4000);
        self.request(&words(&[code, start, count, item_bytes]), room)
    }

    /// What the first `streams` streams offer.
    pub fn pcm_infos(&mut self, streams: u32) -> Vec<PcmInfo> {
        let response = self.query(PCM_INFO, 0, streams, PCM_INFO_BYTES);
        assert_eq!(response.status, OK);
        assert_eq!(response.length, 4 + streams * PCM_INFO_BYTES);
        let items = response.items.chunks(PCM_INFO_BYTES as usize);
        items.map(PcmInfo::decode).collect()
    }

    /// A request about a stream; its status, which is all that the answer holds.
    pub fn ask(&mut self, code: u32, stream: u32) -> u32 {
        self.status_of(&words(&[code, stream]))
    }

    /// The same for a request that must be granted.
    pub fn must(&mut self, code: u32, stream: u32) {
        assert_eq!(
            self.ask(code, stream),
            OK,
            "request {code:#x} for stream {stream}"
        );
    }

    /// SET_PARAMS; its status.
    pub fn set_params(&mut self, stream: u32, params: &Params) -> u32 {
        self.status_of(&params.request(stream))
    }

    fn status_of(&mut self, request: &[u8]) -> u32 {
        let response = self.request(request, 4);
        assert_eq!(response.length, 4);
        response.status
    }

    /// SET_PARAMS and PREPARE.
    pub fn prepare(&mut self, stream: u32, params: &Params) {
        assert_eq!(self.set_params(stream, params), OK, "{params:?}");
        self.must(PREPARE, stream);
    }

    /// STOP and RELEASE.
    pub fn close(&mut self, stream: u32) {
        self.must(STOP, stream);
        self.must(RELEASE, stream);
    }

    /// A whole life of a playback stream: all of `samples` in periods, queued before START.
    pub fn play(&mut self, stream: u32, params: &Params, samples: &[u8]) {
        self.prepare(stream, params);
        let periods = samples.chunks(params.period_bytes as usize);
        let heads: Vec<_> = periods
            .map(|period| self.queue_playback(stream, period))
            .collect();
        self.kick(TX);
        self.must(START, stream);
        for head in heads {
            self.completion(TX).expect_played(head);
        }
        self.close(stream);
    }

    /// A whole life of a capture stream; returns what was captured.
    pub fn record(&mut self, stream: u32, params: &Params, periods: usize) -> Vec<u8> {
        self.prepare(stream, params);
        let bytes = params.period_bytes as usize;
        let heads: Vec<_> = (0..periods)
            .map(|_| self.queue_capture(stream, bytes))
            .collect();
        self.kick(RX);
        self.must(START, stream);
        let mut samples = Vec::new();
        for head in heads {
            let completion = self.completion(RX);
            completion.expect_captured(head, bytes);
            samples.extend(completion.samples);
        }
        self.close(stream);
        samples
    }

    /// Shows that the device still serves all of its streams: one playback, one capture.
    pub fn expect_service(&mut self) {
        self.play(0, &SMALL, &noise(2 * 80, 1));
        self.record(1, &SMALL, 2);
        assert_eq!(self.pcm_infos(2).len(), 2);
    }
}

impl Completion {
    /// A playback message that has been heard.
    pub fn expect_played(&self, head: u16) {
        let found = (self.head, self.length, self.status);
        assert_eq!(found, (head, STATUS_BYTES, OK));
    }

    /// A capture message that is full.
    pub fn expect_captured(&self, head: u16, bytes: usize) {
        let length = STATUS_BYTES + u32::try_from(bytes).unwrap();
        let found = (self.head, self.length, self.status, self.samples.len());
        assert_eq!(found, (head, length, OK, bytes));
    }
}
