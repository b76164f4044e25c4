// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! One stream in the graph, as the server sees it: its properties, its format, its state.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use nix::sys::eventfd::EventFd;
use pipewire::core::CoreRc;
use pipewire::properties::PropertiesBox;
use pipewire::spa::pod::Pod;
use pipewire::spa::utils::Direction as Way;
use pipewire::stream::{StreamFlags, StreamListener, StreamRc, StreamState};
use rtrb::RingBuffer;

use super::cycle::{Feed, listen_to_cycles};
use super::feed::{Capture, Playback};
use super::format;
use super::line::{Line, Ring};
use super::meter::{Meter, Status};
use super::pace::Pace;
use crate::channel_map;
use crate::description::Stream as Described;
use crate::graph_node::{GraphNode, Latency, OnCork};
use crate::stream::Params;
use crate::wire::Direction;

/// What a stream wants to be in the graph.
pub struct Wish {
    direction: Direction,
    name: String,
    /// Shown to people.
    description: String,
    latency: Option<Latency>,
    properties: Vec<(String, String)>,
    maps: Option<Vec<Vec<u8>>>,
    on_cork: OnCork,
}

impl Wish {
    /// The wish of a stream with this place in its card.
    pub fn new(id: usize, node: &GraphNode, description: &Described) -> Self {
        let category = match description.direction {
            Direction::Playback => "Playback",
            Direction::Capture => "Capture",
        };
        let role = node.role.map(|role| ("media.role", role.name));
        let target = node
            .target
            .as_deref()
            .map(|target| ("target.object", target));
        let own = [
            ("media.type", "Audio"),
            ("media.category", category),
            ("application.name", "vhost-user-sound"),
        ];
        let own = own.into_iter().chain(role).chain(target);
        let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let label = description.label(id);
        Self {
            direction: description.direction,
            name: node
                .name
                .clone()
                .unwrap_or_else(|| "vhost-user-sound".to_owned()),
            description: description.name.clone().unwrap_or(label),
            latency: node.latency,
            properties: own.chain(node.properties.iter().cloned()).collect(),
            maps: description.channel_maps.clone(),
            on_cork: node.on_cork,
        }
    }

    /// The longest cycle to ask for: the described one, or the driver's period.
    fn latency(&self, params: &Params) -> Latency {
        self.latency.unwrap_or(Latency {
            frames: u32::try_from(params.period_frames()).unwrap_or(u32::MAX),
            rate: params.rate,
        })
    }

    /// The properties of a node for a driver with these parameters.
    fn properties(&self, params: &Params) -> Vec<(String, String)> {
        let more = [
            ("node.name", self.name.clone()),
            ("node.description", self.description.clone()),
            ("media.name", self.description.clone()),
            ("node.latency", self.latency(params).to_string()),
            ("node.rate", format!("1/{}", params.rate)),
        ];
        let more = more.map(|(key, value)| (key.to_owned(), value));
        // What a user asks for comes last, and wins.
        more.into_iter()
            .chain(self.properties.iter().cloned())
            .collect()
    }

    /// The map of so many channels: the described one, or ALSA's usual one.
    fn map(&self, channels: u8) -> &[u8] {
        let channels = usize::from(channels);
        let described = self.maps.iter().flatten();
        let mut described = described.filter(|map| map.len() == channels);
        let usual = channels
            .checked_sub(1)
            .and_then(|at| channel_map::USUAL.get(at));
        described
            .next()
            .map(Vec::as_slice)
            .or(usual.copied())
            .unwrap_or(&[])
    }
}

/// A stream in the graph. Everything here happens in the server's thread, but for what its listener of
/// cycles does.
pub struct Node {
    // Before what they listen to: they take themselves out of its list.
    _cycles: StreamListener<()>,
    _states: StreamListener<()>,
    stream: StreamRc,
    state: Rc<RefCell<StreamState>>,
    meter: Arc<Meter>,
}

impl Node {
    /// Asks the server for a node. The other end of its ring is for the audio thread, which `bell`
    /// wakes.
    ///
    /// # Errors
    /// Says what the server or the library did not do.
    pub fn new(
        core: &CoreRc,
        wish: &Wish,
        params: &Params,
        bell: &Arc<EventFd>,
    ) -> Result<(Self, Box<Line>), String> {
        let failed = |step: &'static str| move |error| format!("{step}: {error}");
        let mut properties = PropertiesBox::new();
        for (key, value) in wish.properties(params) {
            properties.insert(key, value);
        }
        let stream = StreamRc::new(core.clone(), &wish.description, properties)
            .map_err(failed("new stream"))?;
        let meter = Arc::new(Meter::new(Arc::clone(bell)));
        let (feed, line) = ends(wish, params, &meter);
        let cycles = listen_to_cycles(&stream, feed, params).map_err(failed("listen"))?;
        let state = Rc::new(RefCell::new(StreamState::Unconnected));
        let states =
            listen_to_states(&stream, Arc::clone(&meter), &state).map_err(failed("listen"))?;
        let format = format::describe(params, wish.map(params.channels));
        let format = format.map_err(|error| format!("format: {error}"))?;
        let format = Pod::from_bytes(&format).ok_or("format: no pod")?;
        let way = match wish.direction {
            Direction::Playback => Way::Output,
            Direction::Capture => Way::Input,
        };
        let flags = StreamFlags::AUTOCONNECT | StreamFlags::MAP_BUFFERS | StreamFlags::RT_PROCESS;
        stream
            .connect(way, None, flags, &mut [format])
            .map_err(failed("connect"))?;
        let node = Self {
            _cycles: cycles,
            _states: states,
            stream,
            state,
            meter,
        };
        Ok((node, Box::new(line)))
    }

    /// Whether the graph has not taken yet all that the stream has left to it.
    pub fn is_leaving(&self) -> bool {
        self.meter.is_leaving()
    }

    /// Whether the server has the node: `Ok(false)` while it is on its way.
    ///
    /// # Errors
    /// What the server said against it.
    pub fn is_there(&self) -> Result<bool, String> {
        match &*self.state.borrow() {
            StreamState::Error(error) => Err(error.clone()),
            StreamState::Unconnected => Err("the server has dropped the stream".to_owned()),
            StreamState::Connecting => Ok(false),
            StreamState::Paused | StreamState::Streaming => Ok(true),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Takes the node out of the data thread's hands before its listeners go.
        let _ = self.stream.disconnect();
    }
}

/// Both ends of a new ring.
fn ends(wish: &Wish, params: &Params, meter: &Arc<Meter>) -> (Feed, Line) {
    let pace = Pace::new(wish.direction, params, wish.latency(params));
    let frame_bytes = params.frame_bytes() as usize;
    let capacity = usize::try_from(pace.capacity()).unwrap_or(usize::MAX);
    let (full, empty) = RingBuffer::new(capacity.saturating_mul(frame_bytes));
    let (feed, ring) = match wish.direction {
        Direction::Playback => {
            let feed = Playback::new(Arc::clone(meter), empty, params.format, frame_bytes);
            (Feed::Playback(feed), Ring::Playback(full))
        }
        Direction::Capture => {
            let feed = Capture::new(Arc::clone(meter), full, frame_bytes);
            (Feed::Capture(feed), Ring::Capture(empty))
        }
    };
    let line = Line::new(Arc::clone(meter), ring, pace, params);
    (feed, line.holding(wish.on_cork == OnCork::Hold))
}

/// What the server tells of the stream, in the server's thread.
fn listen_to_states(
    stream: &StreamRc,
    meter: Arc<Meter>,
    state: &Rc<RefCell<StreamState>>,
) -> Result<StreamListener<()>, pipewire::Error> {
    let state = Rc::clone(state);
    let listener = stream.add_local_listener::<()>();
    listener
        .state_changed(move |_, (), _, new| {
            meter.set_status(match new {
                StreamState::Streaming => Status::Streaming,
                _ => Status::Paused,
            });
            meter.ring();
            state.replace(new);
        })
        .register()
}
