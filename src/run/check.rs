// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A card in words, or as JSON, as `--check` prints it.

use std::fmt::Write;

use serde_json::{Value, json};

use super::hosts::{channel_range, format_names, rate_names};
use crate::audio::Host;
use crate::channel_map::{self, POSITIONS};
use crate::description::{Control, ControlKind, Description, HostElement, Jack};
use crate::pcm_format;
use crate::sandbox::Sandbox;
use crate::wire::{Chmap, PcmInfo};

/// Describes the card as its driver would find it, and what its hosts complain about.
pub fn card(description: &Description, host: &mut dyn Host) -> String {
    let infos = host.streams().to_vec();
    let maps = channel_map::of_card(&description.streams, &infos);
    let mut text = String::new();
    for (id, (stream, info)) in description.streams.iter().zip(&infos).enumerate() {
        let before = infos.get(..id).unwrap_or(&[]).iter();
        let same =
            |other: &&PcmInfo| (other.device, other.direction) == (info.device, info.direction);
        let substream = before.filter(same).count();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{}: {} device {}, substream {substream}: {}",
            stream.label(id),
            info.direction,
            info.device,
            stream.host
        );
        let _ = writeln!(text, "    formats  {}", format_names(info.formats));
        let _ = writeln!(text, "    rates    {}", rate_names(info.rates));
        let channels = channel_range(info.channels_min, info.channels_max);
        let _ = writeln!(text, "    channels {channels}");
        let _ = writeln!(text, "    maps     {}", map_names(&maps, info));
        if let Some(error) = host.fault(id) {
            let _ = writeln!(text, "    now      {error}");
        }
    }
    for (id, jack) in description.jacks.iter().enumerate() {
        let _ = writeln!(text, "jack {id}: {}", jack_words(jack));
    }
    for (id, control) in description.controls.iter().enumerate() {
        let _ = writeln!(text, "control {id}: {}", control_words(control));
    }
    if let Some((cpus, _)) = &description.process.cpus {
        let _ = writeln!(text, "process: on CPUs {cpus}");
    }
    match description.process.priority {
        None => {}
        Some(0) => text.push_str("process: no real-time priority\n"),
        Some(priority) => {
            let _ = writeln!(text, "process: real-time priority {priority}");
        }
    }
    text
}

/// The same for programs; `sandbox` is that of this process.
pub fn card_json(description: &Description, host: &mut dyn Host, sandbox: &Sandbox) -> Value {
    let infos = host.streams().to_vec();
    let maps = channel_map::of_card(&description.streams, &infos);
    let streams = description.streams.iter().zip(&infos).enumerate();
    let streams: Vec<_> = streams
        .map(|(id, (stream, info))| {
            let rates = pcm_format::RATES.iter();
            let rates = rates.filter(|&&rate| info.rates & pcm_format::rate_bit(rate) != 0);
            json!({
                "id": id,
                "name": stream.name,
                "direction": info.direction.to_string(),
                "device": info.device,
                "host": stream.host.to_string(),
                "role": stream.host.role().map(|role| role.name),
                "formats": format_names(info.formats).split_whitespace().collect::<Vec<_>>(),
                "rates": rates.collect::<Vec<_>>(),
                "channels": [info.channels_min, info.channels_max],
                "maps": map_names(&maps, info).split_whitespace().collect::<Vec<_>>(),
                "fault": host.fault(id).map(|error| error.to_string()),
            })
        })
        .collect();
    let jacks = description.jacks.iter().map(|jack| {
        json!({
            "kind": jack.kind.to_string(),
            "plugged": jack.plugged,
            "follow": jack.follow.as_ref().map(element),
        })
    });
    json!({
        "streams": streams,
        "jacks": jacks.collect::<Vec<_>>(),
        "controls": description.controls.iter().map(control_json).collect::<Vec<_>>(),
        "cpus": description.process.cpus.as_ref().map(|(cpus, _)| cpus.to_string()),
        "rt_priority": description.process.priority,
        "sandbox": { "on": sandbox.on(), "off": sandbox.off() },
    })
}

fn control_json(control: &Control) -> Value {
    let (kind, range) = match control.kind {
        ControlKind::Volume(min, max) => ("volume", Some([min, max])),
        ControlKind::Mute => ("mute", None),
        ControlKind::Source => ("source", None),
    };
    let range = range.filter(|_| control.mixer.is_none());
    json!({
        "name": control.name,
        "index": control.index,
        "kind": kind,
        "direction": control.direction.to_string(),
        "streams": control.streams,
        "range_db": range.map(|range| range.map(|gain| f64::from(gain) / 100.0)),
        "mixer": control.mixer.as_ref().map(element),
    })
}

fn map_names(maps: &[Chmap], info: &PcmInfo) -> String {
    let of_stream = maps
        .iter()
        .filter(|map| (map.device, map.direction) == (info.device, info.direction));
    let name = |&at: &u8| POSITIONS.get(usize::from(at)).copied().unwrap_or("?");
    of_stream
        .map(|map| map.positions.iter().map(name).collect::<Vec<_>>().join(","))
        .collect::<Vec<_>>()
        .join(" ")
}

fn element(element: &HostElement) -> String {
    let HostElement { card, name, index } = element;
    format!("'{name}',{index} of {card}")
}

fn jack_words(jack: &Jack) -> String {
    let plugged = if jack.plugged { "plugged" } else { "unplugged" };
    let follow = jack.follow.as_ref().map(element);
    let follow = follow.map_or_else(String::new, |element| format!(", follows {element}"));
    format!("{}, {plugged}{follow}", jack.kind)
}

fn control_words(control: &Control) -> String {
    let kind = match control.kind {
        ControlKind::Volume(min, max) if control.mixer.is_none() => {
            let decibels = |gain: i32| f64::from(gain) / 100.0;
            format!("volume from {} to {} dB", decibels(min), decibels(max))
        }
        ControlKind::Volume(..) => "volume".to_owned(),
        ControlKind::Mute => "mute".to_owned(),
        ControlKind::Source => "source".to_owned(),
    };
    let streams: Vec<_> = control.streams.iter().map(usize::to_string).collect();
    let by = control.mixer.as_ref().map(element);
    let by = by.map_or_else(String::new, |element| format!(", by {element}"));
    format!(
        "'{}',{}: {kind} of {} streams {}{by}",
        control.name,
        control.index,
        control.direction,
        streams.join(" ")
    )
}
