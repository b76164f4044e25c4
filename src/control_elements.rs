// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Control elements (virtio 1.3, 5.14.6.9), pure: what each is, what it holds, and what its values
//! mean for the samples of a stream.
//!
//! Volumes count from 0, which is silence, in steps of half a decibel: ALSA's own scale for decibels
//! says so in the metadata. Values outlive every reset of the driver, as those of a real mixer do.

use crate::audio::mixer::{Original, Target};
use crate::control;
use crate::description::{Control, ControlKind};
use crate::wire::{
    self, CTL_ACCESS_READ, CTL_ACCESS_TLV_READ, CTL_ACCESS_WRITE, CTL_INFO_ALIGNED_SIZE,
    CTL_INFO_SIZE, CTL_ITEM_SIZE, CTL_VALUE_SIZE, CTL_VALUES_MAX, CtlInfo, CtlRange, CtlRole,
    ElementRequest, HEADER_SIZE, PcmInfo, Query, Status,
};

/// Hundredths of a decibel from one value of a volume to the next.
const STEP: i32 = 50;
/// `SNDRV_CTL_TLVT_DB_SCALE`: least gain in hundredths of a decibel, step.
const TLV_DB_SCALE: u32 = 1;
/// `TLV_DB_SCALE_MUTE`, in the word of the step: the least value is silence.
const TLV_DB_SCALE_MUTE: u32 = 0x1_0000;
/// Bytes of a `struct virtio_snd_ctl_tlv` without its values.
const TLV_HEADER_SIZE: usize = 8;

/// What the values of an element do to samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Value 1 is this gain in hundredths of a decibel, 0 is silence.
    Volume(i32),
    /// Value 0 is silence.
    Mute,
    /// Nothing: a real card does it.
    Elsewhere,
}

/// A control element.
pub struct Element {
    info: CtlInfo,
    /// `info.count` values.
    values: Vec<u32>,
    /// Type, length and values; empty where there is no metadata.
    tlv: Vec<u32>,
    /// Names of the items, where the element is enumerated.
    items: Vec<String>,
    effect: Effect,
    /// The streams that it acts on.
    streams: Vec<usize>,
}

impl Element {
    /// An element behind which stands one of a real card.
    fn real(control: &Control, original: &Original) -> Self {
        let mut access = CTL_ACCESS_READ;
        if original.writable {
            access |= CTL_ACCESS_WRITE;
        }
        if !original.tlv.is_empty() {
            access |= CTL_ACCESS_TLV_READ;
        }
        let info = CtlInfo {
            role: match control.kind {
                ControlKind::Volume(..) => CtlRole::Volume,
                ControlKind::Mute => CtlRole::Mute,
                ControlKind::Source => CtlRole::Undefined,
            },
            direction: control.direction,
            access,
            count: original.values.len() as u32,
            index: control.index,
            name: control.name.clone(),
            range: original.range,
        };
        Self {
            info,
            values: original.values.clone(),
            tlv: original.tlv.clone(),
            items: original.items.clone(),
            effect: Effect::Elsewhere,
            streams: Vec::new(),
        }
    }

    /// An element that changes the samples of `control.streams`.
    fn software(control: &Control, streams: &[PcmInfo]) -> Self {
        let acts_on = control.streams.iter().filter_map(|&id| streams.get(id));
        let channels = acts_on.map(|info| info.channels_max).max().unwrap_or(1);
        let mut info = CtlInfo {
            role: CtlRole::Mute,
            direction: control.direction,
            access: CTL_ACCESS_READ | CTL_ACCESS_WRITE,
            count: 1,
            index: control.index,
            name: control.name.clone(),
            range: CtlRange::Boolean,
        };
        let (mut initial, mut tlv, mut effect) = (1, Vec::new(), Effect::Mute);
        if let ControlKind::Volume(min, max) = control.kind {
            let (lowest, highest) = whole_steps(min, max);
            let steps = highest.abs_diff(lowest) / STEP.unsigned_abs();
            info.role = CtlRole::Volume;
            info.access |= CTL_ACCESS_TLV_READ;
            info.count = u32::from(channels.max(1)).min(CTL_VALUES_MAX as u32);
            // As ALSA's drivers say it where every number will do.
            info.range = CtlRange::Integer {
                max: steps + 1,
                step: 0,
            };
            initial = (lowest.min(0).unsigned_abs() / STEP.unsigned_abs() + 1).min(steps + 1);
            let least = lowest - STEP;
            let step = TLV_DB_SCALE_MUTE | STEP.unsigned_abs();
            tlv = vec![TLV_DB_SCALE, 8, least.cast_unsigned(), step];
            effect = Effect::Volume(lowest);
        }
        Self {
            values: vec![initial; info.count as usize],
            info,
            tlv,
            items: Vec::new(),
            effect,
            streams: control.streams.clone(),
        }
    }

    /// What the element makes of the samples of a channel: a factor.
    fn gain(&self, channel: usize) -> f64 {
        let value = self.values.get(channel).or(self.values.last()).copied();
        match (self.effect, value.unwrap_or(1)) {
            (Effect::Elsewhere, _) => 1.0,
            (Effect::Volume(_) | Effect::Mute, 0) => 0.0,
            (Effect::Mute, _) => 1.0,
            (Effect::Volume(lowest), value) => {
                let steps = f64::from(value - 1) * f64::from(STEP);
                10f64.powf((f64::from(lowest) + steps) / 2000.0)
            }
        }
    }

    /// Takes the values that the real card has now. Returns whether they are new.
    fn follow(&mut self, values: impl Iterator<Item = u32>) -> bool {
        let mut changed = false;
        for (known, value) in self.values.iter_mut().zip(values) {
            // A real card that breaks its own range is not believed.
            if self.info.range.holds(value) {
                changed |= std::mem::replace(known, value) != value;
            }
        }
        changed
    }

    /// Takes the values of a `struct virtio_snd_ctl_value`. Returns whether they are new.
    fn write(&mut self, value: &[u8]) -> Result<bool, Status> {
        if self.info.access & CTL_ACCESS_WRITE == 0 {
            return Err(Status::NotSupported);
        }
        let numbers = || {
            let words = value
                .chunks_exact(4)
                .filter_map(|word| word.try_into().ok());
            words.map(u32::from_le_bytes).take(self.values.len())
        };
        let good = numbers().filter(|&number| self.info.range.holds(number));
        if good.count() != self.values.len() {
            return Err(Status::BadMessage);
        }
        let changed = !numbers().eq(self.values.iter().copied());
        for (known, word) in self.values.iter_mut().zip(value.chunks_exact(4)) {
            *known = word.try_into().map_or(*known, u32::from_le_bytes);
        }
        Ok(changed)
    }
}

/// The gains of a range, lowest and highest, widened and cut to whole steps; at least one step.
fn whole_steps(min: i32, max: i32) -> (i32, i32) {
    let lowest = min.div_euclid(STEP) * STEP;
    let highest = max.div_euclid(STEP) * STEP;
    (lowest, highest.max(lowest + STEP))
}

/// What a request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status of the response.
    pub status: Status,
    /// The element whose values are others now.
    pub changed: Option<usize>,
}

/// All control elements of a card; the place is the virtio control id.
#[derive(Default)]
pub struct Elements {
    all: Vec<Element>,
}

impl Elements {
    /// The elements that a description asks for, in front of `streams` and, where a real card's
    /// element is to do the work, of `originals`.
    pub fn new(controls: &[Control], streams: &[PcmInfo], originals: &[Original]) -> Self {
        let element = |(id, control)| {
            let original = originals.iter().find(|it| it.target == Target::Control(id));
            match original {
                Some(original) => Element::real(control, original),
                None => Element::software(control, streams),
            }
        };
        Self {
            all: controls.iter().enumerate().map(element).collect(),
        }
    }

    /// The values of an element.
    pub fn values(&self, id: usize) -> &[u32] {
        self.all.get(id).map_or(&[], |element| &element.values)
    }

    /// Takes the values that the real card behind an element has now. Returns whether they are new.
    pub fn follow(&mut self, id: usize, values: impl Iterator<Item = u32>) -> bool {
        let element = self.all.get_mut(id);
        element.is_some_and(|element| element.follow(values))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Most bytes that follow the status of a response.
    pub fn longest_response(&self) -> usize {
        let infos = self.all.len() * CTL_INFO_ALIGNED_SIZE;
        let each = self.all.iter();
        let each =
            each.map(|element| (element.tlv.len() * 4).max(element.items.len() * CTL_ITEM_SIZE));
        each.chain([infos, CTL_VALUE_SIZE]).max().unwrap_or(0)
    }

    /// What the elements make of the samples of a stream's channel: a factor.
    pub fn gain(&self, stream: usize, channel: usize) -> f64 {
        let acting = self
            .all
            .iter()
            .filter(|element| element.streams.contains(&stream));
        acting.map(|element| element.gain(channel)).product()
    }

    /// Answers a request. What follows the status is appended to `out`; the driver has room for
    /// `room` bytes, status and all.
    pub fn answer(
        &mut self,
        request: ElementRequest<'_>,
        room: usize,
        out: &mut Vec<u8>,
    ) -> Answer {
        let after = room.saturating_sub(HEADER_SIZE);
        let result = match request {
            ElementRequest::Info(query) => self.describe(query, room, out),
            ElementRequest::EnumItems(id) => self.name_items(id, after, out),
            ElementRequest::Read(id) => self.read(id, after, out),
            ElementRequest::TlvRead(id) => self.read_tlv(id, after, out),
            ElementRequest::Write(id, value) => match self.write(id, value) {
                Ok(changed) => {
                    return Answer {
                        status: Status::Ok,
                        changed,
                    };
                }
                Err(status) => Err(status),
            },
            // No metadata can be changed; their access rights say so.
            ElementRequest::TlvWrite(id) | ElementRequest::TlvCommand(id) => {
                self.element(id).and(Err(Status::NotSupported))
            }
        };
        Answer {
            status: result.err().unwrap_or(Status::Ok),
            changed: None,
        }
    }

    fn element(&self, id: u32) -> Result<&Element, Status> {
        let place = usize::try_from(id).unwrap_or(usize::MAX);
        self.all.get(place).ok_or(Status::BadMessage)
    }

    fn describe(&self, query: Query, room: usize, out: &mut Vec<u8>) -> Result<(), Status> {
        let size = usize::try_from(query.size).unwrap_or(usize::MAX);
        let encode = |element: &Element, out: &mut Vec<u8>| element.info.encode(size, out);
        match control::list(query, &self.all, CTL_INFO_SIZE, room, out, encode) {
            Status::Ok => Ok(()),
            status => Err(status),
        }
    }

    fn name_items(&self, id: u32, room: usize, out: &mut Vec<u8>) -> Result<(), Status> {
        let element = self.element(id)?;
        if element.items.is_empty() || element.items.len() * CTL_ITEM_SIZE > room {
            return Err(Status::BadMessage);
        }
        for item in &element.items {
            wire::encode_ctl_item(item, out);
        }
        Ok(())
    }

    fn read(&self, id: u32, room: usize, out: &mut Vec<u8>) -> Result<(), Status> {
        let element = self.element(id)?;
        if element.values.len() * 4 > room {
            return Err(Status::BadMessage);
        }
        out.extend(element.values.iter().flat_map(|value| value.to_le_bytes()));
        out.resize(room.min(CTL_VALUE_SIZE), 0);
        Ok(())
    }

    fn write(&mut self, id: u32, value: &[u8]) -> Result<Option<usize>, Status> {
        let place = usize::try_from(id).unwrap_or(usize::MAX);
        let element = self.all.get_mut(place).ok_or(Status::BadMessage)?;
        Ok(element.write(value)?.then_some(place))
    }

    fn read_tlv(&self, id: u32, room: usize, out: &mut Vec<u8>) -> Result<(), Status> {
        let element = self.element(id)?;
        if element.tlv.is_empty() {
            return Err(Status::NotSupported);
        }
        if room < TLV_HEADER_SIZE {
            return Err(Status::BadMessage);
        }
        // What does not fit is left out (5.14.6.9.3.1); the length says that there is more.
        let fitting = element.tlv.iter().take(room / 4);
        out.extend(fitting.flat_map(|word| word.to_le_bytes()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nix::sys::eventfd::EventFd;

    use super::*;
    use crate::audio::mixer::Line;
    use crate::description::USUAL_RANGE;
    use crate::wire::Direction;

    const ROOM: usize = 4096;

    fn stream(direction: Direction, channels_max: u8) -> PcmInfo {
        PcmInfo {
            device: 0,
            formats: 1 << 5,
            rates: 1 << 7,
            direction,
            channels_min: 1,
            channels_max,
            features: 0,
        }
    }

    fn control(name: &str, kind: ControlKind, streams: &[usize]) -> Control {
        Control {
            name: name.to_owned(),
            index: 0,
            kind,
            direction: Direction::Playback,
            streams: streams.to_vec(),
            mixer: None,
        }
    }

    /// A volume of two channels and a mute switch for stream 0.
    fn elements() -> Elements {
        let (min, max) = USUAL_RANGE;
        let controls = [
            control(
                "Master Playback Volume",
                ControlKind::Volume(min, max),
                &[0],
            ),
            control("Master Playback Switch", ControlKind::Mute, &[0]),
        ];
        Elements::new(&controls, &[stream(Direction::Playback, 2)], &[])
    }

    /// The answer, and what follows its status.
    fn ask(elements: &mut Elements, request: ElementRequest<'_>, room: usize) -> (Answer, Vec<u8>) {
        let mut out = Vec::new();
        let answer = elements.answer(request, room, &mut out);
        (answer, out)
    }

    fn status(elements: &mut Elements, request: ElementRequest<'_>, room: usize) -> Status {
        ask(elements, request, room).0.status
    }

    fn value(values: &[u32]) -> [u8; CTL_VALUE_SIZE] {
        let mut bytes = [0; CTL_VALUE_SIZE];
        for (to, from) in bytes.chunks_exact_mut(4).zip(values) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        bytes
    }

    fn write(elements: &mut Elements, id: u32, values: &[u32]) -> Answer {
        ask(elements, ElementRequest::Write(id, &value(values)), ROOM).0
    }

    fn values(elements: &mut Elements, id: u32) -> [u32; 2] {
        let (answer, bytes) = ask(elements, ElementRequest::Read(id), ROOM);
        assert_eq!((answer.status, bytes.len()), (Status::Ok, CTL_VALUE_SIZE));
        [0, 4].map(|at| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()))
    }

    #[test]
    fn a_card_starts_at_0_db_and_unmuted() {
        let mut elements = elements();
        assert_eq!(values(&mut elements, 0), [121, 121]);
        assert_eq!(values(&mut elements, 1), [1, 0]);
        assert_eq!((elements.gain(0, 0), elements.gain(0, 1)), (1.0, 1.0));
        assert_eq!(elements.gain(1, 0), 1.0, "another stream");
    }

    #[test]
    fn the_metadata_are_a_scale_in_decibels() {
        let mut elements = elements();
        let (answer, bytes) = ask(&mut elements, ElementRequest::TlvRead(0), ROOM);
        let words = [1, 8, (-6050i32).cast_unsigned(), 0x1_0000 | 50];
        let expected: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!((answer.status, &bytes), (Status::Ok, &expected));
        // As much as there is room for, in whole words.
        for (room, length) in [(12, 8), (15, 8), (16, 12), (20, 16), (21, 16)] {
            let (answer, bytes) = ask(&mut elements, ElementRequest::TlvRead(0), room);
            assert_eq!(
                (answer.status, &bytes[..]),
                (Status::Ok, &expected[..length])
            );
        }
        assert_eq!(
            status(&mut elements, ElementRequest::TlvRead(0), 11),
            Status::BadMessage
        );
        assert_eq!(
            status(&mut elements, ElementRequest::TlvRead(1), ROOM),
            Status::NotSupported
        );
    }

    #[test]
    fn each_value_is_half_a_decibel_and_the_least_is_silence() {
        let mut elements = elements();
        for (number, decibels) in [(1, -60.0), (2, -59.5), (109, -6.0), (121, 0.0)] {
            write(&mut elements, 0, &[number, 0]);
            let expected = 10f64.powf(decibels / 20.0);
            assert!((elements.gain(0, 0) - expected).abs() < 1e-12, "{number}");
            assert_eq!(elements.gain(0, 1), 0.0);
            // A channel beyond the last follows it.
            assert_eq!(elements.gain(0, 7), 0.0);
        }
    }

    #[test]
    fn elements_of_one_stream_multiply() {
        let kind = ControlKind::Volume(-2000, 1200);
        let controls = ["A", "B"].map(|name| control(name, kind, &[0]));
        let mut elements = Elements::new(&controls, &[stream(Direction::Playback, 1)], &[]);
        assert_eq!(values(&mut elements, 0), [41, 0]);
        write(&mut elements, 0, &[41 - 12]);
        write(&mut elements, 1, &[41 + 24]);
        assert!((elements.gain(0, 0) - 10f64.powf(6.0 / 20.0)).abs() < 1e-12);
    }

    #[test]
    fn ranges_are_whole_steps_and_start_as_near_to_0_db_as_can_be() {
        let ranges = [
            ((-6000, 0), 121, 121),
            ((-5120, -20), 103, 103),
            ((-6000, -3000), 61, 61),
            ((300, 1200), 19, 1),
            ((-1, 1), 2, 2),
        ];
        for ((min, max), most, initial) in ranges {
            let controls = [control("V", ControlKind::Volume(min, max), &[0])];
            let mut elements = Elements::new(&controls, &[stream(Direction::Playback, 1)], &[]);
            assert_eq!(values(&mut elements, 0)[0], initial, "{min} {max}");
            assert_eq!(write(&mut elements, 0, &[most]).status, Status::Ok);
            assert_eq!(
                write(&mut elements, 0, &[most + 1]).status,
                Status::BadMessage
            );
        }
    }

    #[test]
    fn only_a_write_of_other_values_is_a_change() {
        let mut elements = elements();
        let of = |status, changed| Answer { status, changed };
        assert_eq!(write(&mut elements, 0, &[121, 121]), of(Status::Ok, None));
        assert_eq!(
            write(&mut elements, 0, &[121, 120]),
            of(Status::Ok, Some(0))
        );
        assert_eq!(write(&mut elements, 0, &[121, 120]), of(Status::Ok, None));
        assert_eq!(write(&mut elements, 1, &[0]), of(Status::Ok, Some(1)));
    }

    #[test]
    fn wrong_values_change_nothing() {
        let mut elements = elements();
        for wrong in [[122, 0], [0, 122], [u32::MAX, 0], [0, 0x8000_0000]] {
            let bad = Answer {
                status: Status::BadMessage,
                changed: None,
            };
            assert_eq!(write(&mut elements, 0, &wrong), bad);
            assert_eq!(values(&mut elements, 0), [121, 121]);
        }
        for wrong in [2, u32::MAX] {
            assert_eq!(write(&mut elements, 1, &[wrong]).status, Status::BadMessage);
        }
    }

    #[test]
    fn requests_that_do_not_fit_their_element_are_refused() {
        use ElementRequest::{EnumItems, Info, Read, TlvCommand, TlvRead, TlvWrite, Write};
        let mut elements = elements();
        let bytes = value(&[1]);
        for id in [2, 3, u32::MAX] {
            for request in [
                EnumItems(id),
                Read(id),
                Write(id, &bytes),
                TlvRead(id),
                TlvWrite(id),
                TlvCommand(id),
            ] {
                assert_eq!(status(&mut elements, request, ROOM), Status::BadMessage);
            }
        }
        assert_eq!(
            status(&mut elements, EnumItems(0), ROOM),
            Status::BadMessage
        );
        assert_eq!(
            status(&mut elements, TlvWrite(0), ROOM),
            Status::NotSupported
        );
        assert_eq!(
            status(&mut elements, TlvCommand(0), ROOM),
            Status::NotSupported
        );
        assert_eq!(status(&mut elements, Read(0), 11), Status::BadMessage);
        let (answer, bytes) = ask(&mut elements, Read(0), 12);
        assert_eq!((answer.status, bytes.len()), (Status::Ok, 8));
        for (start, count, size, room) in [
            (0, 3, 96, ROOM),
            (2, 1, 96, ROOM),
            (0, 0, 96, ROOM),
            (0, 2, 91, ROOM),
            (0, 2, 96, 195),
            (u32::MAX, u32::MAX, u32::MAX, ROOM),
        ] {
            let query = Query { start, count, size };
            assert_eq!(status(&mut elements, Info(query), room), Status::BadMessage);
        }
    }

    #[test]
    fn elements_describe_themselves() {
        let mut elements = elements();
        for (size, union) in [(92, 68), (96, 72), (128, 72)] {
            let query = Query {
                start: 0,
                count: 2,
                size,
            };
            let (answer, bytes) = ask(&mut elements, ElementRequest::Info(query), ROOM);
            assert_eq!(
                (answer.status, bytes.len()),
                (Status::Ok, 2 * size as usize)
            );
            let (volume, mute) = bytes.split_at(size as usize);
            // Role, type, access, count.
            assert_eq!([4, 8, 12, 16].map(|at| volume[at]), [2, 1, 0x13, 2]);
            assert_eq!([4, 8, 12, 16].map(|at| mute[at]), [4, 0, 3, 1]);
            assert!(volume[24..].starts_with(b"Master Playback Volume\0"));
            assert_eq!([0, 4, 8].map(|at| volume[union + at]), [0, 121, 0]);
            assert!(bytes.len() <= elements.longest_response().max(2 * size as usize));
        }
    }

    /// A source behind which stands a real card's, as it was found.
    fn source(writable: bool, tlv: Vec<u32>) -> Elements {
        let wake = EventFd::new().unwrap();
        let original = Original {
            target: Target::Control(0),
            range: CtlRange::Enumerated(2),
            items: vec!["Mic".to_owned(), "Line".to_owned()],
            writable,
            tlv,
            values: vec![1, 0],
            line: Arc::new(Line::new(&[1, 0], Arc::new(wake))),
            away: false,
        };
        let controls = [control("Capture Source", ControlKind::Source, &[0])];
        Elements::new(&controls, &[stream(Direction::Playback, 2)], &[original])
    }

    #[test]
    fn a_real_element_is_shown_as_it_is_and_leaves_the_samples_alone() {
        let mut elements = source(true, vec![9, 4, 7]);
        let query = Query {
            start: 0,
            count: 1,
            size: 96,
        };
        let (_, info) = ask(&mut elements, ElementRequest::Info(query), ROOM);
        // No role, ENUMERATED, read, write and metadata, two values of two items.
        assert_eq!([4, 8, 12, 16].map(|at| info[at]), [0, 3, 0x13, 2]);
        assert_eq!(info[72], 2);
        assert_eq!(values(&mut elements, 0), [1, 0]);
        let (answer, items) = ask(&mut elements, ElementRequest::EnumItems(0), 4 + 128);
        assert_eq!((answer.status, items.len()), (Status::Ok, 128));
        assert!(items.starts_with(b"Mic\0") && items[64..].starts_with(b"Line\0"));
        let short = status(&mut elements, ElementRequest::EnumItems(0), 4 + 127);
        assert_eq!(short, Status::BadMessage);
        let (_, tlv) = ask(&mut elements, ElementRequest::TlvRead(0), ROOM);
        assert_eq!(tlv, [9, 0, 0, 0, 4, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(write(&mut elements, 0, &[2, 0]).status, Status::BadMessage);
        assert_eq!(write(&mut elements, 0, &[0, 0]).changed, Some(0));
        assert_eq!(elements.gain(0, 0), 1.0);
    }

    #[test]
    fn a_real_element_that_cannot_be_changed_is_read_only() {
        let mut elements = source(false, Vec::new());
        assert_eq!(
            write(&mut elements, 0, &[0, 0]).status,
            Status::NotSupported
        );
        let tlv = status(&mut elements, ElementRequest::TlvRead(0), ROOM);
        assert_eq!(
            (tlv, values(&mut elements, 0)),
            (Status::NotSupported, [1, 0])
        );
    }

    #[test]
    fn a_real_element_is_followed_within_its_range() {
        let mut elements = source(true, Vec::new());
        assert!(!elements.follow(0, [1, 0].into_iter()));
        assert!(elements.follow(0, [1, 1].into_iter()));
        // A value that no driver could write is not taken over.
        assert!(elements.follow(0, [0, 2].into_iter()));
        assert_eq!(values(&mut elements, 0), [0, 1]);
        assert!(!elements.follow(1, [0, 0].into_iter()));
    }
}
