// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control device of a real card, `/dev/snd/controlC*` (`<sound/asound.h>`), as safe functions:
//! with `system.rs` and `audio/alsa/kernel.rs` the only files with unsafe code. alsa-lib's safe wrapper
//! has neither ranges nor metadata of an element.

use std::ffi::{c_int, c_long, c_uint};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Where control devices are, and how their names begin; a card's number follows.
const CARDS: &str = "/dev/snd";
const CONTROL: &str = "controlC";
/// Most values of an element.
const VALUES: usize = 128;
/// Words of metadata that are read.
const TLV_WORDS: usize = 1024;
/// Bytes of a name of an element or of an item, with the zero behind it.
const NAME_SIZE: usize = 44;
const ITEM_SIZE: usize = 64;
/// `SNDRV_CTL_EVENT_MASK_REMOVE`, `SNDRV_CTL_EVENT_MASK_VALUE`
const MASK_REMOVE: u32 = u32::MAX;
const MASK_VALUE: u32 = 1;
/// `struct snd_ctl_event`: a type, 0 for an element, a mask, an element id.
const EVENT_SIZE: usize = 8 + size_of::<ElemId>();

/// `struct snd_ctl_elem_id`
#[repr(C)]
#[derive(Clone, Copy)]
struct ElemId {
    numid: c_uint,
    iface: c_int,
    device: c_uint,
    subdevice: c_uint,
    name: [u8; NAME_SIZE],
    index: c_uint,
}

/// `struct snd_ctl_elem_info`; the union holds numbers of an integer, or of an item and its name.
#[repr(C)]
struct ElemInfo {
    id: ElemId,
    kind: c_int,
    access: c_uint,
    count: c_uint,
    owner: c_int,
    value: InfoValue,
    reserved: [u8; 64],
}

#[repr(C)]
union InfoValue {
    integer: [c_long; 3],
    item: Item,
    size: [u64; 16],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Item {
    count: c_uint,
    number: c_uint,
    name: [u8; ITEM_SIZE],
}

/// `struct snd_ctl_elem_value`
#[repr(C)]
struct ElemValue {
    id: ElemId,
    indirect: c_uint,
    value: Value,
    reserved: [u8; 128],
}

#[repr(C)]
union Value {
    integer: [c_long; VALUES],
    item: [c_uint; VALUES],
    size: [u64; 64],
}

/// `struct snd_ctl_tlv` with room behind it.
#[repr(C)]
struct Tlv {
    numid: c_uint,
    length: c_uint,
    words: [c_uint; TLV_WORDS],
}

/// `struct snd_ctl_card_info`: the card's number, its id, and names.
#[repr(C)]
struct CardInfo {
    card: c_int,
    pad: c_int,
    id: [u8; 16],
    names: [u8; 144],
    mixer: [u8; 80],
    components: [u8; 128],
}

/// The ioctls as the kernel numbers them.
mod raw {
    use super::{CardInfo, ElemInfo, ElemValue, Tlv, c_int};

    nix::ioctl_read!(card_info, b'U', 0x01, CardInfo);
    nix::ioctl_readwrite!(elem_info, b'U', 0x11, ElemInfo);
    nix::ioctl_readwrite!(elem_read, b'U', 0x12, ElemValue);
    nix::ioctl_readwrite!(elem_write, b'U', 0x13, ElemValue);
    nix::ioctl_readwrite!(subscribe_events, b'U', 0x16, c_int);
    // The number tells the size of the header alone.
    nix::ioctl_readwrite_bad!(tlv_read, nix::request_code_readwrite!(b'U', 0x1a, 8), Tlv);
}

/// What the values of a real element can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0 or 1.
    Boolean,
    /// Least, greatest, and step (0: any).
    Integer(c_long, c_long, c_long),
    /// One of these.
    Enumerated(Vec<String>),
    /// Something else.
    Other,
}

/// An element of a real card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number, as long as the card is there.
    pub numid: u32,
    /// What its values can be.
    pub kind: Kind,
    /// How many values it has.
    pub count: usize,
    /// Whether it can be changed.
    pub writable: bool,
    /// Its metadata: type, length in bytes, values; empty where there is none.
    pub tlv: Vec<u32>,
}

/// An open control device.
pub struct ControlDevice(File);

/// How a card is named.
#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    Number(u32),
    Id(&'a str),
}

impl<'a> Name<'a> {
    /// Reads the name of an ALSA control device: `hw:0`, `hw:ID`, `hw:CARD=ID`.
    fn of(card: &'a str) -> Self {
        let card = card.strip_prefix("hw:").unwrap_or(card);
        let card = card.strip_prefix("CARD=").unwrap_or(card);
        card.parse().map_or(Self::Id(card), Self::Number)
    }
}

/// The control devices that are there.
fn control_devices(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_one = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix(CONTROL));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    let files = fs::read_dir(folder)?.filter_map(Result::ok);
    Ok(files.map(|file| file.path()).filter(is_one).collect())
}

/// Opens a control device so that nobody waits for it.
fn open_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits());
    options.open(path)
}

/// Opens the control device of the card with this id. The cards themselves are asked, as alsa-lib
/// does: a service may have no `/proc/asound`.
fn open_by_id(id: &str) -> io::Result<File> {
    let mut failed = io::ErrorKind::NotFound.into();
    for path in control_devices(Path::new(CARDS))? {
        match open_file(&path) {
            Ok(file) if card_id(&file).is_ok_and(|known| known == id) => return Ok(file),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => failed = error,
            _ => {}
        }
    }
    Err(failed)
}

/// The id of the card whose control device this is.
fn card_id(file: &File) -> Result<String, Errno> {
    let mut info = CardInfo {
        card: 0,
        pad: 0,
        id: [0; 16],
        names: [0; 144],
        mixer: [0; 80],
        components: [0; 128],
    };
    // SAFETY: the kernel writes one CardInfo, which lives here; every pattern of bits is a valid one.
    unsafe { raw::card_info(file.as_raw_fd(), &mut info) }?;
    Ok(text(&info.id))
}

fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

impl ElemId {
    fn numbered(numid: u32) -> Self {
        Self {
            numid,
            iface: 0,
            device: 0,
            subdevice: 0,
            name: [0; NAME_SIZE],
            index: 0,
        }
    }
}

impl ControlDevice {
    /// Opens the control device of a card and asks to be told of changes.
    ///
    /// # Errors
    /// There is no such card, or it may not be used.
    pub fn open(card: &str) -> io::Result<Self> {
        let file = match Name::of(card) {
            Name::Number(number) => open_file(&Path::new(CARDS).join(format!("{CONTROL}{number}"))),
            Name::Id(id) => open_by_id(id),
        }?;
        let mut on: c_int = 1;
        // SAFETY: the kernel reads and writes one int, which lives here.
        unsafe { raw::subscribe_events(file.as_raw_fd(), &mut on) }?;
        Ok(Self(file))
    }

    /// Readable when something has changed.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Looks an element up by its name: a mixer's, or else one of the card, as jacks are.
    ///
    /// # Errors
    /// There is none, or the card is gone.
    pub fn find(&self, name: &str, index: u32) -> Result<Found, Errno> {
        let mut id = ElemId::numbered(0);
        id.index = index;
        for (to, from) in id.name.iter_mut().take(NAME_SIZE - 1).zip(name.bytes()) {
            *to = from;
        }
        const IFACE_CARD: c_int = 0;
        const IFACE_MIXER: c_int = 2;
        id.iface = IFACE_MIXER;
        let mixer = self.info(id, 0);
        let (info, ..) = match mixer {
            Err(Errno::ENOENT) => {
                id.iface = IFACE_CARD;
                self.info(id, 0)?
            }
            found => found?,
        };
        const ACCESS_WRITE: u32 = 1 << 1;
        const ACCESS_TLV_READ: u32 = 1 << 4;
        let numid = info.id.numid;
        Ok(Found {
            numid,
            kind: self.kind(&info)?,
            count: (info.count as usize).min(VALUES),
            writable: info.access & ACCESS_WRITE != 0,
            tlv: if info.access & ACCESS_TLV_READ != 0 {
                self.tlv(numid).unwrap_or_default()
            } else {
                Vec::new()
            },
        })
    }

    fn info(&self, id: ElemId, item: u32) -> Result<(ElemInfo, Item), Errno> {
        let mut info = ElemInfo {
            id,
            kind: 0,
            access: 0,
            count: 0,
            owner: 0,
            value: InfoValue { size: [0; 16] },
            reserved: [0; 64],
        };
        info.value.item.number = item;
        // SAFETY: the kernel reads and writes one ElemInfo, which lives here; every pattern of bits
        // is a valid one.
        unsafe { raw::elem_info(self.0.as_raw_fd(), &mut info) }?;
        // SAFETY: all of the union is initialized, and an item is numbers alone.
        let item = unsafe { info.value.item };
        Ok((info, item))
    }

    fn kind(&self, info: &ElemInfo) -> Result<Kind, Errno> {
        // SNDRV_CTL_ELEM_TYPE_*
        Ok(match info.kind {
            1 => Kind::Boolean,
            2 => {
                // SAFETY: all of the union is initialized, and it is numbers alone.
                let [min, max, step] = unsafe { info.value.integer };
                Kind::Integer(min, max, step)
            }
            3 => {
                // SAFETY: as above.
                let count = unsafe { info.value.item.count };
                let id = ElemId::numbered(info.id.numid);
                let names = (0..count).map(|item| Ok(text(&self.info(id, item)?.1.name)));
                Kind::Enumerated(names.collect::<Result<_, Errno>>()?)
            }
            _ => Kind::Other,
        })
    }

    fn tlv(&self, numid: u32) -> Result<Vec<u32>, Errno> {
        let mut tlv = Tlv {
            numid,
            length: (TLV_WORDS * 4) as c_uint,
            words: [0; TLV_WORDS],
        };
        // SAFETY: the kernel reads the header and writes at most `length` bytes behind it, which is
        // the room that there is.
        unsafe { raw::tlv_read(self.0.as_raw_fd(), &mut tlv) }?;
        let length = tlv.words.get(1).map_or(0, |&bytes| bytes as usize / 4);
        Ok(tlv.words.get(..2 + length).unwrap_or_default().to_vec())
    }

    fn empty_value(numid: u32) -> ElemValue {
        ElemValue {
            id: ElemId::numbered(numid),
            indirect: 0,
            value: Value { size: [0; 64] },
            reserved: [0; 128],
        }
    }

    /// Reads the values of an element.
    ///
    /// # Errors
    /// It cannot be read, or the card is gone.
    pub fn read(&self, found: &Found) -> Result<Vec<c_long>, Errno> {
        let mut value = Self::empty_value(found.numid);
        // SAFETY: the kernel reads and writes one ElemValue, which lives here; every pattern of
        // bits is a valid one.
        unsafe { raw::elem_read(self.0.as_raw_fd(), &mut value) }?;
        Ok(if let Kind::Enumerated(_) = found.kind {
            // SAFETY: the union has been initialized, the items among it.
            let items = unsafe { value.value.item };
            items
                .iter()
                .take(found.count)
                .map(|&item| item.into())
                .collect()
        } else {
            // SAFETY: as above.
            let numbers = unsafe { value.value.integer };
            numbers.iter().take(found.count).copied().collect()
        })
    }

    /// Changes the values of an element.
    ///
    /// # Errors
    /// It cannot be changed so, or the card is gone.
    pub fn write(&self, found: &Found, values: &[c_long]) -> Result<(), Errno> {
        let mut value = Self::empty_value(found.numid);
        if let Kind::Enumerated(_) = found.kind {
            let mut items = [0; VALUES];
            for (to, &from) in items.iter_mut().zip(values) {
                *to = c_uint::try_from(from).unwrap_or(0);
            }
            value.value.item = items;
        } else {
            let mut numbers = [0; VALUES];
            for (to, &from) in numbers.iter_mut().zip(values) {
                *to = from;
            }
            value.value.integer = numbers;
        }
        // SAFETY: the kernel reads and writes one ElemValue, which lives here.
        unsafe { raw::elem_write(self.0.as_raw_fd(), &mut value) }?;
        Ok(())
    }

    /// The number of the next element whose value has changed; `None` where none has.
    ///
    /// # Errors
    /// The card is gone.
    pub fn next_change(&self) -> io::Result<Option<u32>> {
        loop {
            let mut event = [0; EVENT_SIZE];
            let word = |event: &[u8], at: usize| {
                let bytes = event
                    .get(at..at + 4)
                    .and_then(|bytes| bytes.try_into().ok());
                bytes.map_or(0, u32::from_ne_bytes)
            };
            match (&self.0).read(&mut event) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
                Ok(length) if length < EVENT_SIZE => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(_) => {}
            }
            let mask = word(&event, 4);
            if word(&event, 0) == 0 && mask != MASK_REMOVE && mask & MASK_VALUE != 0 {
                return Ok(Some(word(&event, 8)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_size_that_the_kernel_gives_them() {
        // Of a machine of 64 bits.
        assert_eq!((size_of::<ElemId>(), size_of::<ElemInfo>()), (64, 272));
        assert_eq!((size_of::<ElemValue>(), EVENT_SIZE), (1224, 72));
        assert_eq!(size_of::<CardInfo>(), 376);
        assert_eq!(std::mem::offset_of!(ElemInfo, value), 80);
        assert_eq!(std::mem::offset_of!(ElemValue, value), 72);
    }

    #[test]
    fn cards_are_named_as_in_alsa() {
        for name in ["hw:3", "3", "hw:CARD=3"] {
            assert_eq!(Name::of(name), Name::Number(3));
        }
        for name in ["hw:desk", "desk", "hw:CARD=desk"] {
            assert_eq!(Name::of(name), Name::Id("desk"));
        }
        for name in ["hw:", "", "hw:..", "hw:no-such-card", "hw:a/b"] {
            assert!(ControlDevice::open(name).is_err(), "{name}");
        }
    }

    #[test]
    fn an_id_is_looked_for_in_control_devices_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["controlC0", "controlC31", "controlC", "pcmC0D0p", "timer"] {
            File::create(folder.path().join(name)).unwrap();
        }
        let mut found = control_devices(folder.path()).unwrap();
        found.sort();
        let wanted = ["controlC0", "controlC31"].map(|name| folder.path().join(name));
        assert_eq!(found, wanted);
        // What is no control device has no id.
        let none = open_file(&folder.path().join("controlC0")).unwrap();
        assert_eq!(card_id(&none), Err(Errno::ENOTTY));
    }
}
