// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `[[control]]` and `[[jack]]` tables.

use std::ops::Range;

use toml::Spanned;

use super::streams::number;
use super::tables::{ControlTable, ElementTable, JackTable, Kind, StreamRef};
use super::{Fault, MAX_ITEMS};
use crate::description::{
    self, Control, ControlKind, HostElement, Jack, JackKind, Stream, USUAL_RANGE,
};
use crate::wire::Direction;

/// Most bytes of an element's name: ALSA's 44 with the zero at the end.
const MAX_NAME: usize = 43;
/// Softest and loudest gain in hundredths of a decibel.
const GAINS: (i32, i32) = (-10_000, 2000);

/// The jacks of all tables, in order.
pub fn jacks(tables: &[Spanned<JackTable>]) -> Result<Vec<Jack>, Fault> {
    few(tables, "jacks")?;
    tables.iter().map(|table| jack(table.get_ref())).collect()
}

fn few<T>(tables: &[Spanned<T>], what: &str) -> Result<(), Fault> {
    match tables.get(MAX_ITEMS) {
        Some(table) => {
            let what = format!("a card has at most {MAX_ITEMS} {what}");
            Err(Fault::new(table.span(), what))
        }
        None => Ok(()),
    }
}

fn jack(table: &JackTable) -> Result<Jack, Fault> {
    let wanted = table.kind.get_ref();
    let known = JackKind::ALL.iter().find(|(_, name)| name == wanted);
    let Some((kind, _)) = known else {
        let names = JackKind::ALL.map(|(_, name)| name).join(", ");
        let what = format!("{wanted}: one of {names}");
        return Err(Fault::new(table.kind.span(), what));
    };
    Ok(Jack {
        kind: *kind,
        plugged: table.plugged.unwrap_or(true),
        follow: table.follow.as_ref().map(element).transpose()?,
    })
}

fn element(table: &ElementTable) -> Result<HostElement, Fault> {
    for text in [&table.card, &table.element] {
        if text.get_ref().is_empty() {
            return Err(Fault::new(text.span(), "this text is empty"));
        }
    }
    Ok(HostElement {
        card: table.card.get_ref().clone(),
        name: element_name(&table.element)?,
        index: element_index(table.index.as_ref())?,
    })
}

fn element_name(name: &Spanned<String>) -> Result<String, Fault> {
    let text = name.get_ref();
    let fault = |what: String| Err(Fault::new(name.span(), what));
    if text.is_empty() {
        return fault("the name is empty".to_owned());
    }
    if text.len() > MAX_NAME {
        let length = text.len();
        return fault(format!(
            "a name of {length} bytes; ALSA takes at most {MAX_NAME}"
        ));
    }
    // What virtio 1.3 and ALSA take.
    if text.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
        return fault("the name has a character that cannot be printed in ASCII".to_owned());
    }
    Ok(text.clone())
}

fn element_index(index: Option<&Spanned<i64>>) -> Result<u32, Fault> {
    // Linux refuses the last one.
    number(index, 0, 0..=u32::MAX - 1, "an element's index")
}

/// The control elements of all tables, in order. `ranges` are the streams that each stream table
/// describes.
pub fn controls(
    tables: &[Spanned<ControlTable>],
    streams: &[Stream],
    ranges: &[Range<usize>],
) -> Result<Vec<Control>, Fault> {
    few(tables, "control elements")?;
    let mut controls: Vec<Control> = Vec::new();
    for table in tables {
        let table = table.get_ref();
        let control = control(table, streams, ranges)?;
        let same = |other: &Control| other.name == control.name && other.index == control.index;
        if let Some(first) = controls.iter().position(same) {
            let what = format!(
                "[[control]] {first} has the name '{}' and the index {} already",
                control.name, control.index
            );
            return Err(Fault::new(table.name.span(), what));
        }
        controls.push(control);
    }
    Ok(controls)
}

fn control(
    table: &ControlTable,
    streams: &[Stream],
    ranges: &[Range<usize>],
) -> Result<Control, Fault> {
    let chosen = chosen_streams(table, streams, ranges)?;
    let direction = direction(table, streams, &chosen)?;
    let acts_on = match table.streams {
        Some(_) => chosen,
        None => description::of_direction(streams, direction),
    };
    if acts_on.is_empty() {
        let what = format!("the card has no {direction} stream for this control element");
        return Err(Fault::new(table.name.span(), what));
    }
    Ok(Control {
        name: element_name(&table.name)?,
        index: element_index(table.index.as_ref())?,
        kind: kind(table)?,
        direction,
        streams: acts_on,
        mixer: table.mixer.as_ref().map(element).transpose()?,
    })
}

/// The streams of the tables that are named.
fn chosen_streams(
    table: &ControlTable,
    streams: &[Stream],
    ranges: &[Range<usize>],
) -> Result<Vec<usize>, Fault> {
    let Some(list) = &table.streams else {
        return Ok(Vec::new());
    };
    if list.get_ref().is_empty() {
        let what = "the list is empty; without this key the element acts on all streams of its \
                    direction";
        return Err(Fault::new(list.span(), what));
    }
    let mut chosen = Vec::new();
    for wanted in list.get_ref() {
        let Some(range) = range_of(wanted.get_ref(), streams, ranges) else {
            let what = format!(
                "there is no [[stream]] {}; they have names, or are counted from 0 to {}",
                wanted.get_ref(),
                ranges.len().saturating_sub(1)
            );
            return Err(Fault::new(wanted.span(), what));
        };
        if chosen.contains(&range.start) {
            let what = format!("[[stream]] {} is in the list already", wanted.get_ref());
            return Err(Fault::new(wanted.span(), what));
        }
        chosen.extend(range.clone());
    }
    Ok(chosen)
}

/// The streams of one table.
fn range_of<'a>(
    wanted: &StreamRef,
    streams: &[Stream],
    ranges: &'a [Range<usize>],
) -> Option<&'a Range<usize>> {
    match wanted {
        StreamRef::Number(number) => ranges.get(usize::try_from(*number).ok()?),
        StreamRef::Name(name) => {
            let id = streams
                .iter()
                .position(|stream| stream.name.as_ref() == Some(name))?;
            ranges.iter().find(|range| range.contains(&id))
        }
    }
}

/// The direction that is said, or that of the chosen streams, or that of the name.
fn direction(
    table: &ControlTable,
    streams: &[Stream],
    chosen: &[usize],
) -> Result<Direction, Fault> {
    let said = table.direction.as_ref();
    let said = said.map(|direction| Direction::from(*direction.get_ref()));
    let of_stream = |id: &usize| streams.get(*id).map(|stream| stream.direction);
    let mut found = chosen.iter().filter_map(of_stream);
    let by_name = || match table.name.get_ref().contains("Capture") {
        true => Direction::Capture,
        false => Direction::Playback,
    };
    let direction = said
        .or_else(|| found.clone().next())
        .unwrap_or_else(by_name);
    if found.any(|other| other != direction) {
        let what = format!("this element acts on {direction} streams, but not all of these are");
        let at = table.streams.as_ref().map_or(0..0, Spanned::span);
        return Err(Fault::new(at, what));
    }
    Ok(direction)
}

fn kind(table: &ControlTable) -> Result<ControlKind, Fault> {
    let kind = *table.kind.get_ref();
    if let Some(range) = &table.range_db {
        let fault = |what| Err(Fault::new(range.span(), what));
        if kind != Kind::Volume {
            return fault("`range-db` belongs to kind = \"volume\" and does nothing here");
        }
        if table.mixer.is_some() {
            return fault("the element of the real card has a range of its own: remove `range-db`");
        }
    }
    match kind {
        Kind::Volume => {
            let (min, max) = table.range_db.as_ref().map_or(Ok(USUAL_RANGE), range)?;
            Ok(ControlKind::Volume(min, max))
        }
        Kind::Mute => Ok(ControlKind::Mute),
        Kind::Source if table.mixer.is_none() => {
            let what = "a source is a choice that a real card has: it needs a `mixer` key, such as \
                        mixer = { card = \"hw:0\", element = \"Capture Source\" }";
            Err(Fault::new(table.kind.span(), what))
        }
        Kind::Source => Ok(ControlKind::Source),
    }
}

fn range(range: &Spanned<Vec<f64>>) -> Result<(i32, i32), Fault> {
    let (least, most) = GAINS;
    let hundredths = |decibels: f64| {
        let gain = (decibels * 100.0).round();
        let allowed = f64::from(least)..=f64::from(most);
        allowed.contains(&gain).then_some(gain as i32)
    };
    if let [min, max] = range.get_ref()[..]
        && let (Some(min), Some(max)) = (hundredths(min), hundredths(max))
        && min < max
    {
        return Ok((min, max));
    }
    let what = "two gains in decibels from -100 to 20, the softer one first, such as [-60, 0]";
    Err(Fault::new(range.span(), what))
}
