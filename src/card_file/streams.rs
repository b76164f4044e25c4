// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `[[stream]]` tables.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;

use super::hosts::host;
use super::tables::{Channels, Host, StreamTable};
use super::{Fault, MAX_ITEMS};
use crate::channel_map;
use crate::description::{self, MAX_DEVICE, MAX_SUBSTREAMS, Stream, StreamHost};
use crate::pcm_format;

/// The streams of all tables in order, and which of them each table describes.
pub fn check(
    tables: &[Spanned<StreamTable>],
    folder: &Path,
) -> Result<(Vec<Stream>, Vec<Range<usize>>), Fault> {
    let mut streams: Vec<Stream> = Vec::new();
    let mut ranges = Vec::new();
    for table in tables {
        let start = streams.len();
        streams.extend(substreams(table.get_ref(), folder)?);
        if streams.len() > MAX_ITEMS {
            let what = format!("a card has at most {MAX_ITEMS} streams, substreams counted");
            return Err(Fault::new(table.span(), what));
        }
        ranges.push(start..streams.len());
    }
    if streams.is_empty() {
        let what = "the card has no stream: describe at least one in a [[stream]] table";
        return Err(Fault::new(0..0, what));
    }
    check_names(tables)?;
    check_files(tables, &streams, &ranges)?;
    check_cables(tables, &streams)?;
    Ok((streams, ranges))
}

/// The equal streams of one table.
fn substreams(table: &StreamTable, folder: &Path) -> Result<Vec<Stream>, Fault> {
    let device = number(
        table.device.as_ref(),
        0,
        0..=MAX_DEVICE,
        "a PCM device number",
    )?;
    let count = number(
        table.substreams.as_ref(),
        1,
        1..=MAX_SUBSTREAMS,
        "a number of substreams",
    )?;
    let stream = Stream {
        name: table.name.as_ref().map(|name| name.get_ref().clone()),
        formats: each(table.formats.as_ref(), |name| {
            pcm_format::parse_format(name)
        })?,
        rates: each(table.rates.as_ref(), |rate| {
            pcm_format::parse_rate(&rate.to_string())
        })?,
        channels: table.channels.as_ref().map(channels).transpose()?,
        channel_maps: channel_maps(table)?,
        polling: table.polling,
        ..Stream::new(table.direction.into(), device, host(table, folder)?)
    };
    Ok(description::substreams(stream, count))
}

/// A number within a range.
pub fn number(
    value: Option<&Spanned<i64>>,
    default: u32,
    allowed: std::ops::RangeInclusive<u32>,
    what: &str,
) -> Result<u32, Fault> {
    let Some(value) = value else {
        return Ok(default);
    };
    let number = u32::try_from(*value.get_ref()).ok();
    number
        .filter(|number| allowed.contains(number))
        .ok_or_else(|| {
            let (least, most) = allowed.into_inner();
            let what = format!("{} is not {what} from {least} to {most}", value.get_ref());
            Fault::new(value.span(), what)
        })
}

/// A list that is not empty and has nothing twice, each item parsed.
fn each<T, V: PartialEq>(
    list: Option<&Spanned<Vec<Spanned<T>>>>,
    parse: impl Fn(&T) -> Result<V, String>,
) -> Result<Vec<V>, Fault>
where
    T: std::fmt::Display,
{
    let Some(list) = list else {
        return Ok(Vec::new());
    };
    if list.get_ref().is_empty() {
        let what = "the list is empty; without this key all that the host has is offered";
        return Err(Fault::new(list.span(), what));
    }
    let mut values = Vec::new();
    for item in list.get_ref() {
        let fault = |what| Fault::new(item.span(), format!("{}: {what}", item.get_ref()));
        let value = parse(item.get_ref()).map_err(&fault)?;
        if values.contains(&value) {
            return Err(fault("it is in the list already".to_owned()));
        }
        values.push(value);
    }
    Ok(values)
}

fn channels(channels: &Spanned<Channels>) -> Result<(u8, u8), Fault> {
    let text = match channels.get_ref() {
        Channels::Number(number) => number.to_string(),
        Channels::Range(range) => range.clone(),
    };
    pcm_format::parse_channels(&text)
        .map_err(|what| Fault::new(channels.span(), format!("{text}: {what}")))
}

fn channel_maps(table: &StreamTable) -> Result<Option<Vec<Vec<u8>>>, Fault> {
    let Some(maps) = &table.channel_maps else {
        return Ok(None);
    };
    let range = table.channels.as_ref().map(channels).transpose()?;
    let (fewest, most) = range.unwrap_or((1, pcm_format::MAX_CHANNELS));
    let mut positions: Vec<Vec<u8>> = Vec::new();
    for map in maps.get_ref() {
        let mut known: Vec<u8> = Vec::new();
        for name in map.get_ref() {
            let fault = |what| Fault::new(name.span(), format!("{}: {what}", name.get_ref()));
            let position = channel_map::parse_position(name.get_ref()).map_err(&fault)?;
            known.push(position);
        }
        if !(usize::from(fewest)..=usize::from(most)).contains(&known.len()) {
            let what = format!(
                "a channel map of {} channels, but the stream has {fewest} to {most}",
                known.len()
            );
            return Err(Fault::new(map.span(), what));
        }
        if positions.contains(&known) {
            return Err(Fault::new(map.span(), "this channel map is there already"));
        }
        positions.push(known);
    }
    Ok(Some(positions))
}

/// A name is one line of text that no other table has.
fn check_names(tables: &[Spanned<StreamTable>]) -> Result<(), Fault> {
    let mut known: Vec<&str> = Vec::new();
    for name in tables
        .iter()
        .filter_map(|table| table.get_ref().name.as_ref())
    {
        let text = name.get_ref().as_str();
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(Fault::new(
                name.span(),
                "a name is one line of text, and not empty",
            ));
        }
        if known.contains(&text) {
            let what = format!("another [[stream]] has the name \"{text}\" already");
            return Err(Fault::new(name.span(), what));
        }
        known.push(text);
    }
    Ok(())
}

/// Two streams cannot write one file.
fn check_files(
    tables: &[Spanned<StreamTable>],
    streams: &[Stream],
    ranges: &[Range<usize>],
) -> Result<(), Fault> {
    let Some((first, second)) = description::written_twice(streams) else {
        return Ok(());
    };
    let table_of = |stream: usize| ranges.iter().position(|range| range.contains(&stream));
    let file_of = |stream| {
        let table: &Spanned<StreamTable> = tables.get(table_of(stream)?)?;
        table.get_ref().file.as_ref()
    };
    let at = file_of(second).map_or(0..0, Spanned::span);
    let host = streams
        .get(second)
        .map_or(&StreamHost::Null, |stream| &stream.host);
    let what = format!(
        "{host} is written by [[stream]] {} already; each stream needs a file of its own",
        table_of(first).unwrap_or(0)
    );
    Err(Fault::new(at, what))
}

/// A cable has as many playback as capture streams.
fn check_cables(tables: &[Spanned<StreamTable>], streams: &[Stream]) -> Result<(), Fault> {
    let Some((cable, playback, capture)) = description::unequal_cable(streams) else {
        return Ok(());
    };
    let on_cable = |table: &&Spanned<StreamTable>| {
        let table = table.get_ref();
        let name = table.cable.as_ref().map_or("loop", |name| name.get_ref());
        *table.host.get_ref() == Host::Loop && name == cable
    };
    let at = tables
        .iter()
        .find(on_cable)
        .map_or(0..0, |table| table.get_ref().host.span());
    let what = format!(
        "cable \"{cable}\" has {playback} playback and {capture} capture streams; each playback \
         stream needs a capture stream, on which it is heard"
    );
    Err(Fault::new(at, what))
}
