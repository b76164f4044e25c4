// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The wire format of control elements (virtio 1.3, 5.14.6.9).

use super::{Direction, Query, le32, query};

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

/// Bytes of `struct virtio_snd_ctl_hdr`.
pub(super) const CTL_HEADER_SIZE: usize = 8;
/// Bytes of `struct virtio_snd_ctl_tlv` before its values.
const TLV_HEADER_SIZE: usize = 8;

const R_CTL_INFO: u32 = 0x0300;
const R_CTL_ENUM_ITEMS: u32 = 0x0301;
const R_CTL_READ: u32 = 0x0302;
const R_CTL_WRITE: u32 = 0x0303;
const R_CTL_TLV_READ: u32 = 0x0304;
const R_CTL_TLV_WRITE: u32 = 0x0305;
const R_CTL_TLV_COMMAND: u32 = 0x0306;

/// Whether a code is that of a request about control elements.
pub(super) fn is_about_elements(code: u32) -> bool {
    (R_CTL_INFO..=R_CTL_TLV_COMMAND).contains(&code)
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

impl<'a> ElementRequest<'a> {
    /// Decodes a request with one of these codes; `None` where it is too short for it.
    pub(super) fn parse(code: u32, bytes: &'a [u8]) -> Option<Self> {
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

#[cfg(test)]
mod tests {
    use super::super::{REQUEST_MAX, Request};
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
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
}
