// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a card is made of: pure data, from the command line or a card file, checked by whoever made
//! it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::graph_node::GraphNode;
use crate::pcm_format::Format;
use crate::process::Process;
use crate::role::Role;
use crate::wire::Direction;

/// Highest number of a PCM device: ALSA has 256 minor numbers for all cards of a machine.
pub const MAX_DEVICE: u32 = 253;
/// Most substreams of one direction of a PCM device.
pub const MAX_SUBSTREAMS: u32 = 32;

/// A card.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// Its streams; the place is the virtio stream id.
    pub streams: Vec<Stream>,
    /// Its jacks; the place is the virtio jack id.
    pub jacks: Vec<Jack>,
    /// Its control elements; the place is the virtio control id.
    pub controls: Vec<Control>,
    /// What its process takes of the machine.
    pub process: Process,
}

/// A stream, which is a substream of a PCM device in ALSA.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// What people call it.
    pub name: Option<String>,
    /// Where its samples go.
    pub direction: Direction,
    /// Number of the ALSA PCM device. Streams of one number and direction are its substreams.
    pub device: u32,
    /// What plays or captures it.
    pub host: StreamHost,
    /// The formats to offer; empty for all that the host has.
    pub formats: Vec<Format>,
    /// The frame rates to offer, in Hz; empty for all that the host has.
    pub rates: Vec<u32>,
    /// Fewest and most channels to offer; `None` for what the host has.
    pub channels: Option<(u8, u8)>,
    /// `VIRTIO_SND_CHMAP_*` of each channel, for each map; `None` for the usual ones.
    pub channel_maps: Option<Vec<Vec<u8>>>,
    /// Whether the driver may leave it to this device to look for messages (MSG_POLLING), as the Linux
    /// driver then does. Not the usual way: while a stream plays, its driver sends no kick in any
    /// case, and one that has run dry costs nothing only if its driver kicks when sound comes again.
    pub polling: bool,
}

impl Stream {
    /// A stream that offers all that its host has.
    pub fn new(direction: Direction, device: u32, host: StreamHost) -> Self {
        Self {
            name: None,
            direction,
            device,
            host,
            formats: Vec::new(),
            rates: Vec::new(),
            channels: None,
            channel_maps: None,
            polling: false,
        }
    }

    /// What the log calls it, with the virtio stream id.
    pub fn label(&self, id: usize) -> String {
        match &self.name {
            Some(name) => format!("stream {id} ({name})"),
            None => format!("stream {id}"),
        }
    }
}

/// What the log calls each stream.
pub fn labels(streams: &[Stream]) -> Vec<String> {
    let streams = streams.iter().enumerate();
    streams.map(|(id, stream)| stream.label(id)).collect()
}

/// `count` equal streams: the substreams of a device. Those that write a file get one each:
/// `out.wav`, `out-2.wav`, and so on; nodes of a graph get names in the same way.
pub fn substreams(stream: Stream, count: u32) -> Vec<Stream> {
    (1..=count)
        .map(|number| {
            let mut stream = stream.clone();
            match (&mut stream.host, stream.direction) {
                (StreamHost::File(path), Direction::Playback) => *path = numbered(path, number),
                (StreamHost::PipeWire(node), _) => number_node(node, number),
                _ => {}
            }
            stream
        })
        .collect()
}

/// `out.wav`, `out-2.wav`, `out-3.wav`...
pub fn numbered(path: &Path, number: u32) -> PathBuf {
    if number <= 1 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Gives a node the name of the `number`th of its kind: `music`, `music-2`, and so on.
pub fn number_node(node: &mut GraphNode, number: u32) {
    if let Some(name) = node.name.as_mut().filter(|_| number > 1) {
        name.push_str(&format!("-{number}"));
    }
}

/// The file that a stream writes.
pub fn written_file(stream: &Stream) -> Option<&Path> {
    match (&stream.host, stream.direction) {
        (StreamHost::File(path), Direction::Playback) => Some(path),
        _ => None,
    }
}

/// Two streams that would write one file.
pub fn written_twice(streams: &[Stream]) -> Option<(usize, usize)> {
    let mut files = streams.iter().map(written_file).enumerate();
    files.find_map(|(second, file)| {
        let file = file?;
        let mut before = streams.iter().take(second);
        let first = before.position(|stream| written_file(stream) == Some(file));
        first.map(|first| (first, second))
    })
}

/// A cable with more streams of one direction than of the other, and the number of its playback and
/// capture streams.
pub fn unequal_cable(streams: &[Stream]) -> Option<(&str, usize, usize)> {
    streams.iter().find_map(|stream| {
        let StreamHost::Loop(cable) = &stream.host else {
            return None;
        };
        let ends = |direction| {
            let ends = streams.iter().filter(|end| end.direction == direction);
            ends.filter(|end| end.host == stream.host).count()
        };
        let (playback, capture) = (ends(Direction::Playback), ends(Direction::Capture));
        (playback != capture).then_some((cable.as_str(), playback, capture))
    })
}

/// What is behind a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamHost {
    /// Plays nothing, captures silence.
    Null,
    /// The cable of this name: its first playback stream is heard on its first capture stream, the
    /// second on the second, and so on.
    Loop(String),
    /// A WAV file.
    File(PathBuf),
    /// A PCM of the machine, by its ALSA name.
    Alsa(String),
    /// A node in the graph of a PipeWire server.
    PipeWire(GraphNode),
    /// A GStreamer pipeline without one end, by its description.
    Pipeline(String),
}

impl StreamHost {
    /// What the sound is for, where that is told to somebody.
    pub fn role(&self) -> Option<Role> {
        match self {
            Self::PipeWire(node) => node.role,
            _ => None,
        }
    }
}

impl fmt::Display for StreamHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Loop(cable) => write!(f, "loop {cable}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Alsa(pcm) => write!(f, "alsa {pcm}"),
            Self::PipeWire(node) => node.fmt(f),
            Self::Pipeline(pipeline) => write!(f, "gstreamer {pipeline}"),
        }
    }
}

/// A socket that something can be plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jack {
    /// What is plugged in there.
    pub kind: JackKind,
    /// Whether it is, at the start.
    pub plugged: bool,
    /// The real card's control element that tells it, such as `Headphone Jack`.
    pub follow: Option<HostElement>,
}

/// The kinds of jack that the Linux driver has names for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JackKind {
    /// `Line Out Jack`
    LineOut,
    /// `Speaker Jack`
    Speaker,
    /// `Headphone Jack`
    Headphone,
    /// `CD Jack`
    Cd,
    /// `SPDIF Out Jack`
    SpdifOut,
    /// `HDMI Out Jack`
    HdmiOut,
    /// `Line Jack`
    LineIn,
    /// `Aux Jack`
    Aux,
    /// `Mic Jack`
    Microphone,
    /// `SPDIF In Jack`
    SpdifIn,
    /// `Digital In Jack`
    DigitalIn,
}

impl JackKind {
    /// Every kind and its name in a card file.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::LineOut, "line-out"),
        (Self::Speaker, "speaker"),
        (Self::Headphone, "headphone"),
        (Self::Cd, "cd"),
        (Self::SpdifOut, "spdif-out"),
        (Self::HdmiOut, "hdmi-out"),
        (Self::LineIn, "line-in"),
        (Self::Aux, "aux"),
        (Self::Microphone, "microphone"),
        (Self::SpdifIn, "spdif-in"),
        (Self::DigitalIn, "digital-in"),
    ];
}

impl fmt::Display for JackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::ALL.iter().find(|(kind, _)| kind == self);
        f.write_str(known.map_or("", |(_, name)| name))
    }
}

/// A control element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Its ALSA name, such as `Master Playback Volume`; at most 43 bytes.
    pub name: String,
    /// Tells elements of one name apart.
    pub index: u32,
    /// What it does.
    pub kind: ControlKind,
    /// The direction of the streams that it acts on.
    pub direction: Direction,
    /// The streams that it acts on.
    pub streams: Vec<usize>,
    /// The real card's element that does it; `None` where the samples are changed.
    pub mixer: Option<HostElement>,
}

/// What a control element does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlKind {
    /// Sets how loud the streams are, between these gains in hundredths of a decibel. The real
    /// card's element, if there is one, has a range of its own.
    Volume(i32, i32),
    /// Switches the streams off and on.
    Mute,
    /// Chooses where capture comes from; always a real card's element.
    Source,
}

/// A control element of a real card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostElement {
    /// The card's control device in ALSA, such as `hw:0`.
    pub card: String,
    /// Name of the element.
    pub name: String,
    /// Its index.
    pub index: u32,
}

/// Gains of a volume that says nothing else, in hundredths of a decibel.
pub const USUAL_RANGE: (i32, i32) = (-6000, 0);

/// The control elements of a card that describes none: volume and mute for each direction that has
/// streams.
pub fn usual_controls(streams: &[Stream]) -> Vec<Control> {
    let names = [
        (Direction::Playback, "Master Playback"),
        (Direction::Capture, "Capture"),
    ];
    let mut controls = Vec::new();
    for (direction, prefix) in names {
        let acts_on = of_direction(streams, direction);
        if acts_on.is_empty() {
            continue;
        }
        let (min, max) = USUAL_RANGE;
        let kinds = [
            (ControlKind::Volume(min, max), "Volume"),
            (ControlKind::Mute, "Switch"),
        ];
        controls.extend(kinds.map(|(kind, suffix)| Control {
            name: format!("{prefix} {suffix}"),
            index: 0,
            kind,
            direction,
            streams: acts_on.clone(),
            mixer: None,
        }));
    }
    controls
}

/// The ids of all streams of a direction.
pub fn of_direction(streams: &[Stream], direction: Direction) -> Vec<usize> {
    let all = streams.iter().enumerate();
    all.filter(|(_, stream)| stream.direction == direction)
        .map(|(id, _)| id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directions_that_have_streams_get_controls() {
        let stream = |direction| Stream::new(direction, 0, StreamHost::Null);
        assert_eq!(usual_controls(&[]), []);
        let names = |streams: &[Stream]| {
            let controls = usual_controls(streams);
            controls
                .into_iter()
                .map(|control| (control.name, control.streams))
                .collect::<Vec<_>>()
        };
        let capture = stream(Direction::Capture);
        let found = names(std::slice::from_ref(&capture));
        let both = ["Capture Volume", "Capture Switch"];
        assert_eq!(found, both.map(|name| (name.to_owned(), vec![0])));
        let found = names(&[
            capture,
            stream(Direction::Playback),
            stream(Direction::Playback),
        ]);
        assert_eq!(found.len(), 4);
        assert_eq!(found[0], ("Master Playback Volume".to_owned(), vec![1, 2]));
        assert_eq!(found[3], ("Capture Switch".to_owned(), vec![0]));
    }

    #[test]
    fn numbers_go_before_the_extension() {
        assert_eq!(
            numbered(Path::new("/a/b.c.wav"), 1),
            Path::new("/a/b.c.wav")
        );
        assert_eq!(
            numbered(Path::new("/a/b.c.wav"), 2),
            Path::new("/a/b.c-2.wav")
        );
        assert_eq!(numbered(Path::new("out"), 3), Path::new("out-3"));
    }
}
