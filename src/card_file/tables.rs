// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The tables and keys of a card file, as they are written. Values that can be wrong know where they
//! are.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use crate::graph_node::OnCork;
use crate::wire;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardTable {
    pub controls: Option<Spanned<Controls>>,
    pub process: Option<ProcessTable>,
    #[serde(default)]
    pub stream: Vec<Spanned<StreamTable>>,
    #[serde(default)]
    pub control: Vec<Spanned<ControlTable>>,
    #[serde(default)]
    pub jack: Vec<Spanned<JackTable>>,
}

/// The control elements of a card that describes none.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Controls {
    Software,
    None,
}

/// `[process]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProcessTable {
    pub cpus: Option<Spanned<String>>,
    pub rt_priority: Option<Spanned<i64>>,
}

/// `[[stream]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StreamTable {
    pub name: Option<Spanned<String>>,
    pub direction: Direction,
    pub host: Spanned<Host>,
    pub pcm: Option<Spanned<String>>,
    pub file: Option<Spanned<PathBuf>>,
    pub cable: Option<Spanned<String>>,
    pub pipeline: Option<Spanned<String>>,
    pub role: Option<Spanned<String>>,
    pub node_name: Option<Spanned<String>>,
    pub latency: Option<Spanned<String>>,
    pub properties: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    pub target: Option<Spanned<String>>,
    pub on_cork: Option<Spanned<OnCork>>,
    pub device: Option<Spanned<i64>>,
    pub substreams: Option<Spanned<i64>>,
    pub formats: Option<Spanned<Vec<Spanned<String>>>>,
    pub rates: Option<Spanned<Vec<Spanned<i64>>>>,
    pub channels: Option<Spanned<Channels>>,
    pub channel_maps: Option<Spanned<Vec<ChannelMap>>>,
    #[serde(default)]
    pub polling: bool,
}

/// The names of a map's positions.
pub type ChannelMap = Spanned<Vec<Spanned<String>>>;

/// Where samples go.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    Playback,
    Capture,
}

impl From<Direction> for wire::Direction {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Playback => Self::Playback,
            Direction::Capture => Self::Capture,
        }
    }
}

/// What is behind a stream.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Host {
    Null,
    File,
    Loop,
    Alsa,
    #[serde(rename = "gstreamer")]
    GStreamer,
    #[serde(rename = "pipewire")]
    PipeWire,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::File => "file",
            Self::Loop => "loop",
            Self::Alsa => "alsa",
            Self::GStreamer => "gstreamer",
            Self::PipeWire => "pipewire",
        })
    }
}

/// A number, or a range in quotes.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a number from 1 to 8, or a range in quotes such as \"1-2\""
)]
pub enum Channels {
    Number(i64),
    Range(String),
}

/// `[[control]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ControlTable {
    pub name: Spanned<String>,
    pub index: Option<Spanned<i64>>,
    pub kind: Spanned<Kind>,
    pub direction: Option<Spanned<Direction>>,
    pub streams: Option<Spanned<Vec<Spanned<StreamRef>>>>,
    pub range_db: Option<Spanned<Vec<f64>>>,
    pub mixer: Option<ElementTable>,
}

/// A stream table, by its number from 0 or by its name.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "the number of a [[stream]] table, or its name in quotes"
)]
pub enum StreamRef {
    Number(i64),
    Name(String),
}

impl fmt::Display for StreamRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// What a control element does.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Volume,
    Mute,
    Source,
}

/// `[[jack]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct JackTable {
    pub kind: Spanned<String>,
    pub plugged: Option<bool>,
    pub follow: Option<ElementTable>,
}

/// An element of a real card.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ElementTable {
    pub card: Spanned<String>,
    pub element: Spanned<String>,
    pub index: Option<Spanned<i64>>,
}
