// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The card that the command line describes.

use super::RunError;
use crate::args::{Args, Controls, HostKind};
use crate::description::{self, Description, Stream, StreamHost};
use crate::graph_node::{GraphNode, OnCork};
use crate::process::Process;
use crate::wire::Direction;

/// Makes the card of the options.
///
/// # Errors
/// An option is missing or has no effect.
pub fn describe(args: &Args) -> Result<Description, RunError> {
    check(args)?;
    let streams = match args.host {
        HostKind::Null => both(args, |_| StreamHost::Null),
        HostKind::Loop => both(args, |device| StreamHost::Loop(device.to_string())),
        HostKind::File => {
            let playback = args.playback_file.iter().cloned().map(StreamHost::File);
            let capture = args.capture_file.iter().cloned().map(StreamHost::File);
            listed(args, playback, capture)
        }
        HostKind::Alsa => {
            let playback = args.playback_device.iter().cloned().map(StreamHost::Alsa);
            let capture = args.capture_device.iter().cloned().map(StreamHost::Alsa);
            listed(args, playback, capture)
        }
        HostKind::GStreamer => {
            let playback = args.playback_pipeline.iter().cloned();
            let capture = args.capture_pipeline.iter().cloned();
            let (playback, capture) = (
                playback.map(StreamHost::Pipeline),
                capture.map(StreamHost::Pipeline),
            );
            listed(args, playback, capture)
        }
        HostKind::PipeWire => {
            let nodes =
                |direction| (0..args.devices).map(move |device| node(args, direction, device));
            listed(args, nodes(Direction::Playback), nodes(Direction::Capture))
        }
    };
    if let Some((_, second)) = description::written_twice(&streams) {
        let host = streams.get(second).map(|stream| stream.host.to_string());
        return Err(RunError::WrittenTwice(host.unwrap_or_default()));
    }
    let controls = match args.controls {
        Controls::Software => description::usual_controls(&streams),
        Controls::None => Vec::new(),
    };
    Ok(Description {
        streams,
        controls,
        ..Description::default()
    })
}

/// What the options say of the process.
pub fn process(args: &Args) -> Process {
    let cpus = args.cpus.clone();
    Process {
        cpus: cpus.map(|cpus| {
            let said_by = format!("--cpus {cpus}");
            (cpus, said_by)
        }),
        priority: args.rt_priority,
    }
}

/// Refuses options that the chosen host would ignore.
fn check(args: &Args) -> Result<(), RunError> {
    let name = match args.host {
        HostKind::Null => "null",
        HostKind::File => "file",
        HostKind::Loop => "loop",
        HostKind::Alsa => "alsa",
        HostKind::GStreamer => "gstreamer",
        HostKind::PipeWire => "pipewire",
    };
    let alsa = args.host == HostKind::Alsa;
    let file = args.host == HostKind::File;
    let pipeline = args.host == HostKind::GStreamer;
    let graph = args.host == HostKind::PipeWire;
    let node = &args.pipewire;
    let options = [
        ("--playback-device", !args.playback_device.is_empty(), alsa),
        ("--capture-device", !args.capture_device.is_empty(), alsa),
        ("--playback-file", !args.playback_file.is_empty(), file),
        ("--capture-file", !args.capture_file.is_empty(), file),
        (
            "--playback-pipeline",
            !args.playback_pipeline.is_empty(),
            pipeline,
        ),
        (
            "--capture-pipeline",
            !args.capture_pipeline.is_empty(),
            pipeline,
        ),
        ("--devices", args.devices != 1, !(alsa || file || pipeline)),
        ("--role", node.role.is_some(), graph),
        ("--node-name", node.node_name.is_some(), graph),
        ("--latency", node.latency.is_some(), graph),
        ("--property", !node.property.is_empty(), graph),
        ("--target", node.target.is_some(), graph),
        ("--on-cork", node.on_cork != OnCork::Drain, graph),
    ];
    let ignored = options.iter().find(|(_, given, useful)| *given && !useful);
    if let Some((option, ..)) = ignored {
        return Err(RunError::Misplaced(option, name));
    }
    let [play_on, capture_from, play_to, capture, sink, source, ..] =
        options.map(|(_, given, _)| given);
    if file && !(play_to || capture) {
        return Err(RunError::Missing(
            name,
            "--playback-file, --capture-file or both",
        ));
    }
    if alsa && !(play_on || capture_from) {
        return Err(RunError::Missing(
            name,
            "--playback-device, --capture-device or both",
        ));
    }
    if pipeline && !(sink || source) {
        return Err(RunError::Missing(
            name,
            "--playback-pipeline, --capture-pipeline or both",
        ));
    }
    Ok(())
}

/// The node of a device in PipeWire's graph.
fn node(args: &Args, direction: Direction, device: u32) -> StreamHost {
    let options = &args.pipewire;
    let mut node = GraphNode {
        role: options.role,
        name: options.node_name.clone(),
        latency: options.latency,
        properties: options.property.clone(),
        target: options.target.clone(),
        on_cork: options.on_cork,
    };
    if direction == Direction::Capture {
        // The target of sound is no source of it.
        node.target = None;
        if let Some(name) = &mut node.name {
            name.push_str("-capture");
        }
    }
    description::number_node(&mut node, device.saturating_add(1));
    StreamHost::PipeWire(node)
}

/// Devices of both directions that need no name.
fn both(args: &Args, host: impl Fn(u32) -> StreamHost) -> Vec<Stream> {
    let devices = || (0..args.devices).map(&host);
    listed(args, devices(), devices())
}

/// One device for each host of a direction, in order.
fn listed(
    args: &Args,
    playback: impl Iterator<Item = StreamHost>,
    capture: impl Iterator<Item = StreamHost>,
) -> Vec<Stream> {
    let playback = playback.map(|host| (Direction::Playback, host));
    let capture = capture.map(|host| (Direction::Capture, host));
    let numbered = (0..).zip(playback).chain((0..).zip(capture));
    let devices = numbered.map(|(device, (direction, host))| stream(args, direction, device, host));
    devices
        .flat_map(|stream| description::substreams(stream, args.substreams))
        .collect()
}

fn stream(args: &Args, direction: Direction, device: u32, host: StreamHost) -> Stream {
    let stream = Stream {
        polling: args.polling,
        ..Stream::new(direction, device, host)
    };
    // A captured file is offered as it is.
    if direction == Direction::Capture && matches!(stream.host, StreamHost::File(_)) {
        return stream;
    }
    Stream {
        formats: args.formats.clone(),
        rates: args.rates.clone(),
        channels: args.channels,
        ..stream
    }
}
