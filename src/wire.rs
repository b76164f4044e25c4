// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The wire format of the virtio sound device (virtio 1.3, 5.14): raw numbers become enums here and
//! nowhere else. Imports nothing from this crate.

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
/// Bytes of `struct virtio_snd_ctl_info` as the specification has it, without padding (1.4).
pub const CTL_INFO_SIZE: usize = 92;
/// The same as a compiler lays it out that aligns its 64-bit fields: Linux on most machines.
pub const CTL_INFO_ALIGNED_SIZE: usize = 96;
/// Bytes of `struct virtio_snd_ctl_enum_item`.
pub const CTL_ITEM_SIZE: usize = 64;
/// Bytes of `struct virtio_snd_ctl_value`.
pub const CTL_VALUE_SIZE: usize = 512;
/// Most values of a control element of 32-bit values.
pub const CTL_VALUES_MAX: usize = 128;
/// Bytes of a control element's name with the zero behind it.
pub const CTL_NAME_SIZE: usize = 44;
/// No request is longer, CTL_WRITE is the longest; what follows is ignored.
pub const REQUEST_MAX: usize = CTL_HEADER_SIZE + CTL_VALUE_SIZE;

/// Bytes of `struct virtio_snd_ctl_hdr`.
const CTL_HEADER_SIZE: usize = 8;
/// Bytes of `struct virtio_snd_ctl_tlv` before its values.
const TLV_HEADER_SIZE: usize = 8;

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
const R_CTL_INFO: u32 = 0x0300;
const R_CTL_ENUM_ITEMS: u32 = 0x0301;
const R_CTL_READ: u32 = 0x0302;
const R_CTL_WRITE: u32 = 0x0303;
const R_CTL_TLV_READ: u32 = 0x0304;
const R_CTL_TLV_WRITE: u32 = 0x0305;
const R_CTL_TLV_COMMAND: u32 = 0x0306;

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

/// A request about control elements (5.14.6.9); all but the first name one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementRequest<'a> {
    /// Describe elements.
    Info(Query),
    /// Name the items of an enumerated element.
    EnumItems(u32),
    /// Tell the values of an element.
    Read(u32),
    /// Change them to those of this `struct virtio_snd_ctl_value`, which has its full size.
    Write(u32, &'a [u8]),
    /// Tell the metadata of an element.
    TlvRead(u32),
    /// Change its metadata.
    TlvWrite(u32),
    /// Carry out a command of its metadata.
    TlvCommand(u32),
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

impl<'a> ElementRequest<'a> {
    fn parse(code: u32, bytes: &'a [u8]) -> Option<Self> {
        let id = || le32(bytes, 4);
        let value = || bytes.get(CTL_HEADER_SIZE..CTL_HEADER_SIZE + CTL_VALUE_SIZE);
        let tlv = || bytes.get(CTL_HEADER_SIZE..CTL_HEADER_SIZE + TLV_HEADER_SIZE);
        Some(match code {
            R_CTL_INFO => Self::Info(query(bytes)?),
            R_CTL_ENUM_ITEMS => Self::EnumItems(id()?),
            R_CTL_READ => Self::Read(id()?),
            R_CTL_WRITE => Self::Write(id()?, value()?),
            R_CTL_TLV_READ => Self::TlvRead(id()?),
            R_CTL_TLV_WRITE => Self::TlvWrite(tlv().and_then(|_| id())?),
            R_CTL_TLV_COMMAND => Self::TlvCommand(tlv().and_then(|_| id())?),
            _ => return None,
        })
    }
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
            code @ R_CTL_INFO..=R_CTL_TLV_COMMAND => {
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

/// What a control element is for (`VIRTIO_SND_CTL_ROLE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CtlRole {
    /// Anything else.
    Undefined = 0,
    /// Sets how loud sound is.
    Volume = 1,
    /// Switches sound off and on.
    Mute = 2,
}

/// The values that a control element takes (`VIRTIO_SND_CTL_TYPE_*` and its range).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtlRange {
    /// 0 (off) or 1 (on).
    Boolean,
    /// From 0 up to `max` in steps of `step`, 0 where any number in between will do. The Linux
    /// driver takes a negative number for a huge one.
    Integer {
        /// The largest number.
        max: u32,
        /// From one number to the next.
        step: u32,
    },
    /// One of so many items.
    Enumerated(u32),
}

impl CtlRange {
    fn wire_type(self) -> u32 {
        match self {
            Self::Boolean => 0,
            Self::Integer { .. } => 1,
            Self::Enumerated(_) => 3,
        }
    }

    /// The union behind the name: min, max and step, or the number of items.
    fn union(self) -> [u32; 3] {
        match self {
            Self::Boolean => [0; 3],
            Self::Integer { max, step } => [0, max, step],
            Self::Enumerated(items) => [items, 0, 0],
        }
    }

    /// Whether a value can be taken.
    pub fn holds(self, value: u32) -> bool {
        match self {
            Self::Boolean => value <= 1,
            Self::Integer { max, step } => {
                value <= max && value.checked_rem(step).unwrap_or(0) == 0
            }
            Self::Enumerated(items) => value < items,
        }
    }
}

/// `1 << VIRTIO_SND_CTL_ACCESS_READ`
pub const CTL_ACCESS_READ: u32 = 1 << 0;
/// `1 << VIRTIO_SND_CTL_ACCESS_WRITE`
pub const CTL_ACCESS_WRITE: u32 = 1 << 1;
/// `1 << VIRTIO_SND_CTL_ACCESS_TLV_READ`
pub const CTL_ACCESS_TLV_READ: u32 = 1 << 4;

/// `struct virtio_snd_ctl_info`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CtlInfo {
    /// What it is for.
    pub role: CtlRole,
    /// The sound that it acts on.
    pub direction: Direction,
    /// `CTL_ACCESS_*`
    pub access: u32,
    /// How many values it has, at least 1.
    pub count: u32,
    /// Tells elements of one name apart.
    pub index: u32,
    /// Its name in ALSA; what is longer than [`CTL_NAME_SIZE`] allows is cut off.
    pub name: String,
    /// What its values can be.
    pub range: CtlRange,
}

impl CtlInfo {
    /// Appends the item as the driver reads it that gives `size` bytes to one: at
    /// [`CTL_INFO_ALIGNED_SIZE`] and more, its compiler has aligned the 64-bit fields of the union.
    pub fn encode(&self, size: usize, out: &mut Vec<u8>) {
        let role = match self.role {
            CtlRole::Undefined => 0,
            role => ((role as u32) << 1) | self.direction as u32,
        };
        let words = [
            0,
            role,
            self.range.wire_type(),
            self.access,
            self.count,
            self.index,
        ];
        out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        out.extend(zero_terminated::<CTL_NAME_SIZE>(&self.name));
        if size >= CTL_INFO_ALIGNED_SIZE {
            out.extend_from_slice(&[0; CTL_INFO_ALIGNED_SIZE - CTL_INFO_SIZE]);
        }
        out.extend(
            self.range
                .union()
                .iter()
                .flat_map(|word| word.to_le_bytes()),
        );
        out.extend_from_slice(&[0; 12]); // the union has room for three 64-bit numbers
    }
}

/// `struct virtio_snd_ctl_enum_item`
pub fn encode_ctl_item(name: &str, out: &mut Vec<u8>) {
    out.extend(zero_terminated::<CTL_ITEM_SIZE>(name));
}

/// A text as the driver reads it: what does not fit is cut off, a zero ends it.
fn zero_terminated<const SIZE: usize>(text: &str) -> [u8; SIZE] {
    let mut field = [0; SIZE];
    for (to, from) in field.iter_mut().take(SIZE - 1).zip(text.bytes()) {
        *to = from;
    }
    field
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
    fn every_request_about_elements_is_decoded() {
        let mut write = words(&[0x303, 7]);
        write.extend([9; 512]);
        let query = Query {
            start: 1,
            count: 2,
            size: 96,
        };
        let known = [
            (words(&[0x300, 1, 2, 96]), ElementRequest::Info(query)),
            (words(&[0x301, 7]), ElementRequest::EnumItems(7)),
            (words(&[0x302, 7]), ElementRequest::Read(7)),
            (write.clone(), ElementRequest::Write(7, &write[8..])),
            (words(&[0x304, 7]), ElementRequest::TlvRead(7)),
            (words(&[0x305, 7, 1, 0]), ElementRequest::TlvWrite(7)),
            (words(&[0x306, 7, 1, 0]), ElementRequest::TlvCommand(7)),
        ];
        for (bytes, request) in known {
            assert!(bytes.len() <= REQUEST_MAX);
            assert_eq!(Request::parse(&bytes), Some(Request::Element(request)));
        }
    }

    #[test]
    fn an_element_is_laid_out_as_the_specification_or_as_an_aligning_compiler_has_it() {
        let info = CtlInfo {
            role: CtlRole::Mute,
            direction: Direction::Capture,
            access: CTL_ACCESS_READ | CTL_ACCESS_WRITE,
            count: 8,
            index: 3,
            name: "x".repeat(50),
            range: CtlRange::Integer { max: 120, step: 2 },
        };
        for (size, union) in [(CTL_INFO_SIZE, 68), (CTL_INFO_ALIGNED_SIZE, 72)] {
            let mut out = Vec::new();
            info.encode(size, &mut out);
            assert_eq!(out.len(), size);
            assert_eq!((out[4], out[8], out[12], out[16], out[20]), (5, 1, 3, 8, 3));
            assert_eq!((&out[24..67], out[67]), (&[b'x'; 43][..], 0));
            assert_eq!(out[union..union + 12], words(&[0, 120, 2]));
        }
        let mut item = Vec::new();
        encode_ctl_item(&"y".repeat(70), &mut item);
        assert_eq!((item.len(), item[62], item[63]), (CTL_ITEM_SIZE, b'y', 0));
    }

    #[test]
    fn a_range_holds_what_it_says() {
        let of = |range: CtlRange| (0..6).filter(|&v| range.holds(v)).collect::<Vec<_>>();
        assert_eq!(of(CtlRange::Boolean), [0, 1]);
        assert_eq!(of(CtlRange::Integer { max: 4, step: 2 }), [0, 2, 4]);
        assert_eq!(of(CtlRange::Integer { max: 2, step: 0 }), [0, 1, 2]);
        assert_eq!(of(CtlRange::Enumerated(2)), [0, 1]);
        for range in [CtlRange::Boolean, CtlRange::Enumerated(3)] {
            assert!(!range.holds(u32::MAX));
        }
    }

    #[test]
    fn config_space_counts_what_there_is() {
        let config = config_space(3, 2, 10, 4);
        assert_eq!((config[0], config[4], config[8], config[12]), (3, 2, 10, 4));
    }
}
