// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is behind a `[[stream]]`: its `host` key, and the keys of that host.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;

use super::Fault;
use super::tables::{Host, StreamTable};
use crate::description::StreamHost;
use crate::graph_node::{self, GraphNode};
use crate::role;

/// The host of a stream.
pub fn host(table: &StreamTable, folder: &Path) -> Result<StreamHost, Fault> {
    check_keys(table)?;
    match table.host.get_ref() {
        Host::Null => Ok(StreamHost::Null),
        Host::Loop => match &table.cable {
            Some(cable) => Ok(StreamHost::Loop(not_empty(cable, "cable")?)),
            None => Ok(StreamHost::Loop("loop".to_owned())),
        },
        Host::File => {
            let file = needed(table, table.file.as_ref(), "file = \"out.wav\"")?;
            if file.get_ref().file_name().is_none() {
                let what = format!("{} names no file", file.get_ref().display());
                return Err(Fault::new(file.span(), what));
            }
            Ok(StreamHost::File(folder.join(file.get_ref())))
        }
        Host::Alsa => {
            let pcm = needed(table, table.pcm.as_ref(), "pcm = \"hw:0,0\"")?;
            Ok(StreamHost::Alsa(not_empty(pcm, "pcm")?))
        }
        Host::GStreamer => {
            let example = "pipeline = \"audioconvert ! autoaudiosink\"";
            let pipeline = needed(table, table.pipeline.as_ref(), example)?;
            Ok(StreamHost::Pipeline(not_empty(pipeline, "pipeline")?))
        }
        Host::PipeWire => Ok(StreamHost::PipeWire(node(table)?)),
    }
}

/// Where a key of a host is, if it is there.
fn at<T>(key: &Option<Spanned<T>>) -> Option<Range<usize>> {
    key.as_ref().map(Spanned::span)
}

/// Refuses keys of other hosts.
fn check_keys(table: &StreamTable) -> Result<(), Fault> {
    let keys = [
        ("pcm", Host::Alsa, at(&table.pcm)),
        ("file", Host::File, at(&table.file)),
        ("cable", Host::Loop, at(&table.cable)),
        ("pipeline", Host::GStreamer, at(&table.pipeline)),
        ("role", Host::PipeWire, at(&table.role)),
        ("node-name", Host::PipeWire, at(&table.node_name)),
        ("latency", Host::PipeWire, at(&table.latency)),
        ("properties", Host::PipeWire, at(&table.properties)),
        ("target", Host::PipeWire, at(&table.target)),
        ("on-cork", Host::PipeWire, at(&table.on_cork)),
    ];
    for (key, host, at) in keys {
        if let Some(at) = at.filter(|_| host != *table.host.get_ref()) {
            let what = format!("`{key}` belongs to host = \"{host}\" and does nothing here");
            return Err(Fault::new(at, what));
        }
    }
    Ok(())
}

/// A key that the host cannot do without; `example` starts with its name.
fn needed<'a, T>(
    table: &StreamTable,
    key: Option<&'a Spanned<T>>,
    example: &str,
) -> Result<&'a Spanned<T>, Fault> {
    key.ok_or_else(|| {
        let name = example.split(' ').next().unwrap_or(example);
        let what = format!("this host needs a `{name}` key, such as {example}");
        Fault::new(table.host.span(), what)
    })
}

fn not_empty(value: &Spanned<String>, key: &str) -> Result<String, Fault> {
    if value.get_ref().is_empty() {
        return Err(Fault::new(value.span(), format!("`{key}` is empty")));
    }
    Ok(value.get_ref().clone())
}

/// Parses a text, if it is there.
fn parsed<T>(
    value: &Option<Spanned<String>>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, Fault> {
    let value = value.as_ref().map(|value| {
        let text = value.get_ref();
        parse(text).map_err(|what| Fault::new(value.span(), format!("{text}: {what}")))
    });
    value.transpose()
}

fn node(table: &StreamTable) -> Result<GraphNode, Fault> {
    let mut properties = Vec::new();
    for (key, value) in table.properties.iter().flat_map(Spanned::get_ref) {
        let property = graph_node::check_property(key, value.get_ref());
        properties.push(property.map_err(|what| Fault::new(value.span(), what))?);
    }
    Ok(GraphNode {
        role: parsed(&table.role, role::parse_role)?,
        name: parsed(&table.node_name, graph_node::parse_name)?,
        latency: parsed(&table.latency, graph_node::parse_latency)?,
        properties,
        target: parsed(&table.target, graph_node::parse_name)?,
        on_cork: table
            .on_cork
            .as_ref()
            .map_or_else(Default::default, |value| *value.get_ref()),
    })
}
