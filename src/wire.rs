// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The wire format of the virtio sound device (virtio 1.3, 5.14): raw numbers become enums here and
//! nowhere else. Imports nothing from this crate.

mod element;

pub use element::*;

/// How many queues a sound device has (5.14.2).
pub const QUEUES: usize = 4;
/// Control requests and their responses.
pub const QUEUE_CONTROL: usize = 0;
/// Room for what the device has to tell by itself.
pub const QUEUE_EVENT: usize = 1;
/// Playback messages.
pub const QUEUE_TX: usize = 2;
/// Capture messages.
pub const QUEUE_RX: usize = 3;

/// Bytes of `struct virtio_snd_hdr`.
pub const HEADER_SIZE: usize = 4;
/// Bytes of `struct virtio_snd_pcm_xfer`, which opens every tx and rx message.
pub const XFER_SIZE: usize = 4;
/// Bytes of `struct virtio_snd_pcm_status`, which ends every tx and rx message.
pub const PCM_STATUS_SIZE: usize = 8;
/// Bytes of `struct virtio_snd_pcm_info`.
pub const PCM_INFO_SIZE: usize = 32;
/// Bytes of `struct virtio_snd_jack_info`.
pub const JACK_INFO_SIZE: usize = 24;
/// Bytes of `struct virtio_snd_chmap_info`.
pub const CHMAP_INFO_SIZE: usize = 24;
/// Bytes of `struct virtio_snd_event` and `struct virtio_snd_ctl_event`.
pub const EVENT_SIZE: usize = 8;
/// Most channels that a channel map describes.
pub const CHMAP_MAX_CHANNELS: usize = 18;
/// No request is longer, CTL_WRITE is the longest; what follows is ignored.
pub const REQUEST_MAX: usize = element::CTL_HEADER_SIZE + CTL_VALUE_SIZE;

/// Feature bit: the device has control elements (`VIRTIO_SND_F_CTLS`).
pub const F_CTLS: u64 = 1 << 0;

/// `1 << VIRTIO_SND_CTL_EVT_MASK_VALUE`: the values of a control element have changed.
pub const CTL_EVT_VALUE: u16 = 1 << 0;

/// `1 << VIRTIO_SND_PCM_F_MSG_POLLING`: the driver does not kick for messages of the stream.
pub const PCM_MSG_POLLING: u32 = 1 << 2;
/// `1 << VIRTIO_SND_PCM_F_EVT_XRUNS`: the driver wants to be told of lost sound.
pub const PCM_EVT_XRUNS: u32 = 1 << 4;

const R_JACK_INFO: u32 = 1;
const R_JACK_REMAP: u32 = 2;
const R_PCM_INFO: u32 = 0x0100;
const R_PCM_SET_PARAMS: u32 = 0x0101;
const R_PCM_PREPARE: u32 = 0x0102;
const R_PCM_RELEASE: u32 = 0x0103;
const R_PCM_START: u32 = 0x0104;
const R_PCM_STOP: u32 = 0x0105;
const R_CHMAP_INFO: u32 = 0x0200;

const EVT_JACK_CONNECTED: u32 = 0x1000;
const EVT_JACK_DISCONNECTED: u32 = 0x1001;
const EVT_PCM_XRUN: u32 = 0x1101;
const EVT_CTL_NOTIFY: u32 = 0x1200;

/// The status of a response or of an I/O message (5.14.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    /// Done.
    Ok = 0x8000,
    /// The message is malformed or does not fit the state of its stream.
    BadMessage = 0x8001,
    /// The request or its parameters are not supported.
    NotSupported = 0x8002,
    /// The host's device failed.
    IoError = 0x8003,
}

/// Where the samples of a stream go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// From the driver to the host.
    Playback = 0,
    /// From the host to the driver.
    Capture = 1,
}

impl Direction {
    /// The queue of its messages.
    pub fn queue(self) -> usize {
        match self {
            Self::Playback => QUEUE_TX,
            Self::Capture => QUEUE_RX,
        }
    }
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Playback => "playback",
            Self::Capture => "capture",
        })
    }
}

/// `struct virtio_snd_query_info`: a range of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// First item.
    pub start: u32,
    /// How many items.
    pub count: u32,
    /// Bytes that the driver gives to one item.
    pub size: u32,
}

/// `struct virtio_snd_pcm_set_params` without its header; nothing checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawParams {
    /// Bytes of the driver's whole buffer.
    pub buffer_bytes: u32,
    /// Bytes of one period.
    pub period_bytes: u32,
    /// Feature bits selected for the stream.
    pub features: u32,
    /// Samples per frame.
    pub channels: u8,
    /// `VIRTIO_SND_PCM_FMT_*`.
    pub format: u8,
    /// `VIRTIO_SND_PCM_RATE_*`.
    pub rate: u8,
}

/// A request on the control queue (5.14.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Describe jacks.
    JackInfo(Query),
    /// Give a jack another association and sequence.
    JackRemap(u32),
    /// Describe streams.
    PcmInfo(Query),
    /// Describe channel maps.
    ChmapInfo(Query),
    /// Choose the parameters of a stream.
    SetParams(u32, RawParams),
    /// Get a stream ready.
    Prepare(u32),
    /// Give back all messages of a stream and what it holds.
    Release(u32),
    /// Let the clock of a stream run.
    Start(u32),
    /// Halt the clock of a stream.
    Stop(u32),
    /// Something about control elements.
    Element(ElementRequest<'a>),
    /// A request that this device does not know or does not offer.
    Other(u32),
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

fn query(bytes: &[u8]) -> Option<Query> {
    Some(Query {
        start: le32(bytes, 4)?,
        count: le32(bytes, 8)?,
        size: le32(bytes, 12)?,
    })
}

fn raw_params(bytes: &[u8]) -> Option<RawParams> {
    // The last byte is padding and has to be there.
    bytes.get(23)?;
    Some(RawParams {
        buffer_bytes: le32(bytes, 8)?,
        period_bytes: le32(bytes, 12)?,
        features: le32(bytes, 16)?,
        channels: *bytes.get(20)?,
        format: *bytes.get(21)?,
        rate: *bytes.get(22)?,
    })
}

impl<'a> Request<'a> {
    /// Decodes what the driver wrote; `None` where it is too short for its code.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let stream = || le32(bytes, 4);
        Some(match le32(bytes, 0)? {
            R_JACK_INFO => Self::JackInfo(query(bytes)?),
            R_JACK_REMAP => {
                // Association and sequence, which have to be there.
                bytes.get(15)?;
                Self::JackRemap(stream()?)
            }
            R_PCM_INFO => Self::PcmInfo(query(bytes)?),
            R_CHMAP_INFO => Self::ChmapInfo(query(bytes)?),
            R_PCM_SET_PARAMS => Self::SetParams(stream()?, raw_params(bytes)?),
            R_PCM_PREPARE => Self::Prepare(stream()?),
            R_PCM_RELEASE => Self::Release(stream()?),
            R_PCM_START => Self::Start(stream()?),
            R_PCM_STOP => Self::Stop(stream()?),
            code if element::is_about_elements(code) => {
                Self::Element(ElementRequest::parse(code, bytes)?)
            }
            code => Self::Other(code),
        })
    }
}

/// An event notification (5.14.6): `struct virtio_snd_event` or `struct virtio_snd_ctl_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// Something was plugged into this jack.
    JackConnected(u32),
    /// Something was pulled out of this jack.
    JackDisconnected(u32),
    /// Sound of this stream was lost.
    Xrun(u32),
    /// Something about this control element has changed: `1 << VIRTIO_SND_CTL_EVT_MASK_*`.
    Control(u16, u16),
}

impl Notification {
    /// The event as the driver reads it.
    pub fn encode(self) -> [u8; EVENT_SIZE] {
        let (code, data) = match self {
            Self::JackConnected(jack) => (EVT_JACK_CONNECTED, jack),
            Self::JackDisconnected(jack) => (EVT_JACK_DISCONNECTED, jack),
            Self::Xrun(stream) => (EVT_PCM_XRUN, stream),
            Self::Control(id, mask) => (EVT_CTL_NOTIFY, u32::from(mask) << 16 | u32::from(id)),
        };
        let [a, b, c, d] = code.to_le_bytes();
        let [e, f, g, h] = data.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }
}

/// The stream id of `struct virtio_snd_pcm_xfer`.
pub fn parse_xfer(bytes: [u8; XFER_SIZE]) -> u32 {
    u32::from_le_bytes(bytes)
}

/// `struct virtio_snd_pcm_status`. `latency_bytes` is what the host still holds back.
pub fn pcm_status(status: Status, latency_bytes: u32) -> [u8; PCM_STATUS_SIZE] {
    let [a, b, c, d] = (status as u32).to_le_bytes();
    let [e, f, g, h] = latency_bytes.to_le_bytes();
    [a, b, c, d, e, f, g, h]
}

/// `struct virtio_snd_jack_info`. No jack can be remapped: VIRTIO_SND_JACK_F_REMAP is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JackInfo {
    /// `hda_fn_nid`: the PCM device that the jack belongs to.
    pub device: u32,
    /// `hda_reg_defconf`: pin default configuration (HDA 7.3.3.31).
    pub defconf: u32,
    /// `hda_reg_caps`: pin capabilities (HDA 7.3.4.9).
    pub caps: u32,
    /// Whether something is plugged in.
    pub connected: bool,
}

impl JackInfo {
    /// Appends the item as the driver reads it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for field in [self.device, 0, self.defconf, self.caps] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&[self.connected.into(), 0, 0, 0, 0, 0, 0, 0]);
    }
}

/// `struct virtio_snd_pcm_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcmInfo {
    /// `hda_fn_nid`: number of the PCM device in ALSA.
    pub device: u32,
    /// `1 << VIRTIO_SND_PCM_FMT_*`.
    pub formats: u64,
    /// `1 << VIRTIO_SND_PCM_RATE_*`.
    pub rates: u64,
    /// Where the samples go.
    pub direction: Direction,
    /// Fewest channels.
    pub channels_min: u8,
    /// Most channels.
    pub channels_max: u8,
    /// What a driver may select: [`PCM_EVT_XRUNS`], [`PCM_MSG_POLLING`]. Shared memory is left out:
    /// the specification has no such transport yet.
    pub features: u32,
}

impl PcmInfo {
    /// Appends the item as the driver reads it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.device.to_le_bytes());
        out.extend_from_slice(&self.features.to_le_bytes());
        out.extend_from_slice(&self.formats.to_le_bytes());
        out.extend_from_slice(&self.rates.to_le_bytes());
        out.extend_from_slice(&[self.direction as u8, self.channels_min, self.channels_max]);
        out.extend_from_slice(&[0; 5]);
    }
}

/// `struct virtio_snd_chmap_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chmap {
    /// `hda_fn_nid`: the PCM device that it describes.
    pub device: u32,
    /// The streams that it describes.
    pub direction: Direction,
    /// `VIRTIO_SND_CHMAP_*` of each channel; the length is the number of channels.
    pub positions: Vec<u8>,
}

impl Chmap {
    /// Appends the item as the driver reads it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut positions = [0; CHMAP_MAX_CHANNELS];
        for (to, from) in positions.iter_mut().zip(&self.positions) {
            *to = *from;
        }
        let channels = self.positions.len().min(CHMAP_MAX_CHANNELS) as u8;
        out.extend_from_slice(&self.device.to_le_bytes());
        out.extend_from_slice(&[self.direction as u8, channels]);
        out.extend_from_slice(&positions);
    }
}

/// `struct virtio_snd_config`: jacks, streams, channel maps, control elements.
pub fn config_space(jacks: u32, streams: u32, chmaps: u32, controls: u32) -> [u8; 16] {
    let mut config = [0; 16];
    let fields = [jacks, streams, chmaps, controls];
    for (to, from) in config.chunks_exact_mut(4).zip(fields) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    #[test]
    fn every_known_request_is_decoded() {
        let query = Query {
            start: 1,
            count: 2,
            size: 32,
        };
        assert_eq!(
            Request::parse(&words(&[1, 1, 2, 32])),
            Some(Request::JackInfo(query))
        );
        assert_eq!(
            Request::parse(&words(&[0x100, 1, 2, 32])),
            Some(Request::PcmInfo(query))
        );
        assert_eq!(
            Request::parse(&words(&[0x200, 1, 2, 32])),
            Some(Request::ChmapInfo(query))
        );
        assert_eq!(
            Request::parse(&words(&[0x102, 7])),
            Some(Request::Prepare(7))
        );
        assert_eq!(
            Request::parse(&words(&[0x103, 7])),
            Some(Request::Release(7))
        );
        assert_eq!(Request::parse(&words(&[0x104, 7])), Some(Request::Start(7)));
        assert_eq!(Request::parse(&words(&[0x105, 7])), Some(Request::Stop(7)));
        let mut set = words(&[0x101, 3, 4096, 1024, 0]);
        set.extend([2, 5, 7, 0]);
        let params = RawParams {
            buffer_bytes: 4096,
            period_bytes: 1024,
            features: 0,
            channels: 2,
            format: 5,
            rate: 7,
        };
        assert_eq!(Request::parse(&set), Some(Request::SetParams(3, params)));
    }

    #[test]
    fn a_request_cut_short_anywhere_is_refused() {
        let mut set = words(&[0x101, 3, 4096, 1024, 0]);
        set.extend([2, 5, 7, 0]);
        let mut write = words(&[0x303, 0]);
        write.extend([0; 512]);
        let short = [
            words(&[2, 0, 1, 1]),
            words(&[0x100, 0, 1, 32]),
            words(&[0x102, 0]),
            words(&[0x300, 0, 1, 96]),
            words(&[0x301, 0]),
            words(&[0x302, 0]),
            words(&[0x304, 0]),
            words(&[0x305, 0, 0, 0]),
            words(&[0x306, 0, 0, 0]),
        ];
        for whole in short.into_iter().chain([set, write]) {
            assert!(Request::parse(&whole).is_some());
            for length in 0..whole.len() {
                assert_eq!(Request::parse(&whole[..length]), None, "{length} bytes");
            }
        }
    }

    #[test]
    fn unknown_codes_are_kept_apart_from_short_messages() {
        for code in [0, 3, 0x106, 0x2ff, 0x307, u32::MAX] {
            assert_eq!(Request::parse(&words(&[code])), Some(Request::Other(code)));
        }
    }

    #[test]
    fn items_have_the_size_and_the_offsets_of_the_specification() {
        let mut out = Vec::new();
        PcmInfo {
            device: 0x0201,
            formats: 1 << 5,
            rates: 1 << 7,
            direction: Direction::Capture,
            channels_min: 1,
            channels_max: 8,
            features: PCM_MSG_POLLING | PCM_EVT_XRUNS,
        }
        .encode(&mut out);
        assert_eq!(out.len(), PCM_INFO_SIZE);
        assert_eq!(out[..4], [1, 2, 0, 0]);
        assert_eq!(
            (out[4], out[8], out[16], &out[24..27]),
            (1 << 2 | 1 << 4, 1 << 5, 1 << 7, &[1u8, 1, 8][..])
        );
        out.clear();
        JackInfo {
            device: 1,
            defconf: 2,
            caps: 4,
            connected: true,
        }
        .encode(&mut out);
        assert_eq!(out, words(&[1, 0, 2, 4, 1, 0]));
        assert_eq!(out.len(), JACK_INFO_SIZE);
        out.clear();
        Chmap {
            device: 0x0201,
            direction: Direction::Capture,
            positions: vec![3, 4],
        }
        .encode(&mut out);
        assert_eq!(out.len(), CHMAP_INFO_SIZE);
        assert_eq!(&out[..9], &[1, 2, 0, 0, 1, 2, 3, 4, 0]);
    }

    #[test]
    fn events_are_those_of_the_specification() {
        let events = [
            (Notification::JackConnected(7), words(&[0x1000, 7])),
            (Notification::JackDisconnected(7), words(&[0x1001, 7])),
            (Notification::Xrun(3), words(&[0x1101, 3])),
            (
                Notification::Control(0x102, 5),
                vec![0, 0x12, 0, 0, 2, 1, 5, 0],
            ),
        ];
        for (event, bytes) in events {
            assert_eq!(event.encode()[..], bytes, "{event:?}");
        }
    }

    #[test]
    fn config_space_counts_what_there_is() {
        let config = config_space(3, 2, 10, 4);
        assert_eq!((config[0], config[4], config[8], config[12]), (3, 2, 10, 4));
    }
}
