// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A pipeline from a user's description: parsed, asked what it can do, and played with this program at
//! its open end.

use std::sync::OnceLock;

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSrc};

use super::caps;
use crate::stream::Params;
use crate::wire::Direction;

/// How long sound may take from the stream's clock into the pipeline.
const LATENCY: gst::ClockTime = gst::ClockTime::from_mseconds(20);
/// A pause in the stream that is one for the pipeline too.
const PAUSE: gst::ClockTime = gst::ClockTime::from_mseconds(200);
/// How long a pipeline may take to show what it captures.
const PROBE: gst::ClockTime = gst::ClockTime::from_seconds(2);
/// How long a pipeline may take to end: a sink plays what it still holds.
const ENDING: gst::ClockTime = gst::ClockTime::from_seconds(5);
/// Seconds of sound that may wait in the pipeline's source.
const WAITING: u64 = 1;

/// Names the open end of a description.
fn open_pad(direction: Direction) -> &'static str {
    match direction {
        Direction::Playback => "sink",
        Direction::Capture => "src",
    }
}

/// GStreamer is ready, once for the whole process.
fn ready() -> Result<(), String> {
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    let start = || gst::init().map_err(|error| error.to_string());
    READY.get_or_init(start).clone()
}

/// The elements of a description, with one open end.
///
/// # Errors
/// GStreamer's own words, or what is wrong with the ends.
pub fn parse(description: &str, direction: Direction) -> Result<gst::Element, String> {
    ready()?;
    let flags = gst::ParseFlags::FATAL_ERRORS;
    let parsed = gst::parse::bin_from_description_full(description, true, None, flags);
    let elements = parsed.map_err(|error| error.to_string())?;
    let (there, other, advice) = match direction {
        Direction::Playback => (
            "takes no sound",
            "ends in nothing",
            "playback needs what starts with a converter and ends with a sink, such as \
             audioconvert ! autoaudiosink",
        ),
        Direction::Capture => (
            "gives no sound",
            "starts with nothing",
            "capture needs what starts with a source, such as audiotestsrc ! audioconvert",
        ),
    };
    let [wanted, unwanted] = match direction {
        Direction::Playback => ["sink", "src"],
        Direction::Capture => ["src", "sink"],
    };
    if elements.static_pad(wanted).is_none() {
        return Err(format!("it {there}: {advice}"));
    }
    if elements.static_pad(unwanted).is_some() {
        return Err(format!("it {other}: {advice}"));
    }
    Ok(elements)
}

/// What the open end of a description can do, and what keeps a source from showing it.
///
/// # Errors
/// The description makes no pipeline.
pub fn ability(
    description: &str,
    direction: Direction,
) -> Result<(gst::Caps, Option<String>), String> {
    let elements = parse(description, direction)?;
    let pad = elements.static_pad(open_pad(direction));
    let able = || {
        pad.as_ref()
            .map_or_else(gst::Caps::new_empty, |pad| pad.query_caps(None))
    };
    if direction == Direction::Playback {
        return Ok((able(), None));
    }
    // A source knows only once it is open.
    let pipeline = gst::Pipeline::new();
    let sink = gst::ElementFactory::make("fakesink");
    let sink = sink.build().map_err(|error| error.to_string())?;
    let joined = pipeline.add_many([&elements, &sink]);
    joined.map_err(|error| error.to_string())?;
    elements.link(&sink).map_err(|error| error.to_string())?;
    let started = pipeline.set_state(gst::State::Paused);
    let (settled, ..) = pipeline.state(PROBE);
    let trouble = match started.and(settled) {
        Ok(_) => None,
        Err(_) => Some(trouble(&pipeline).unwrap_or_else(|| "it does not start".to_owned())),
    };
    let found = able();
    let _ = pipeline.set_state(gst::State::Null);
    Ok((found, trouble))
}

/// What a pipeline has said that ends it.
fn trouble(pipeline: &gst::Pipeline) -> Option<String> {
    let message = pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
    words(&message)
}

/// An error in GStreamer's words, on one line, with the element that it is about.
fn words(message: &gst::Message) -> Option<String> {
    let gst::MessageView::Error(error) = message.view() else {
        return None;
    };
    let element = message.src().map(|source| source.name().to_string());
    let text = error.error().to_string().replace('\n', " ");
    Some(format!("{}: {text}", element.unwrap_or_default()))
}

/// This program's end.
enum End {
    Source(AppSrc),
    Sink(AppSink),
}

/// A pipeline that plays.
pub struct Pipeline {
    pipeline: gst::Pipeline,
    end: End,
    frame_bytes: usize,
    rate: u64,
    /// The time of the next frame.
    next: Option<gst::ClockTime>,
    /// Whether its source makes sound only while time passes.
    pub live: bool,
    moved: bool,
}

impl Pipeline {
    /// Plays a description with these parameters.
    ///
    /// # Errors
    /// GStreamer's own words.
    pub fn start(description: &str, params: &Params, direction: Direction) -> Result<Self, String> {
        let elements = parse(description, direction)?;
        let caps = caps::of(params, direction).ok_or("GStreamer has no name for this format")?;
        let pipeline = gst::Pipeline::new();
        // It is CLOCK_MONOTONIC.
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        let end = match direction {
            Direction::Playback => End::Source(source(&caps)),
            Direction::Capture => End::Sink(sink(&caps)),
        };
        let (from, to): (&gst::Element, &gst::Element) = match &end {
            End::Source(source) => (source.upcast_ref(), &elements),
            End::Sink(sink) => (&elements, sink.upcast_ref()),
        };
        let joined = pipeline.add_many([from, to]);
        joined.map_err(|error| error.to_string())?;
        from.link(to).map_err(|error| error.to_string())?;
        let mut playing = Self {
            end,
            frame_bytes: params.frame_bytes() as usize,
            rate: params.rate.into(),
            next: None,
            live: false,
            moved: false,
            pipeline,
        };
        match playing.pipeline.set_state(gst::State::Playing) {
            Ok(success) => playing.live = success == gst::StateChangeSuccess::NoPreroll,
            Err(error) => {
                let said = trouble(&playing.pipeline);
                return Err(said.unwrap_or_else(|| error.to_string()));
            }
        }
        Ok(playing)
    }

    /// What has gone wrong; once. An element that has another latency now, as a sink when the first sound arrives,
    /// makes the pipeline tell all of them.
    pub fn fault(&self) -> Option<String> {
        let bus = self.pipeline.bus()?;
        let kinds = [
            gst::MessageType::Error,
            gst::MessageType::Eos,
            gst::MessageType::Latency,
        ];
        let message = loop {
            let message = bus.pop_filtered(&kinds)?;
            if message.type_() != gst::MessageType::Latency {
                break message;
            }
            // Where it cannot be told, a sink plays as before.
            let _ = self.pipeline.recalculate_latency();
        };
        match &self.end {
            End::Source(_) => {
                Some(words(&message).unwrap_or_else(|| "the pipeline has ended".to_owned()))
            }
            // What is captured may come to its end.
            End::Sink(_) => words(&message),
        }
    }

    /// Whether nothing more can be captured.
    pub fn is_at_its_end(&self) -> bool {
        matches!(&self.end, End::Sink(sink) if sink.is_eos())
    }

    /// Bytes of sound that the pipeline takes now.
    pub fn room(&self) -> usize {
        let End::Source(source) = &self.end else {
            return 0;
        };
        let most = WAITING * self.rate * self.frame_bytes as u64;
        usize::try_from(most.saturating_sub(source.current_level_bytes())).unwrap_or(0)
    }

    /// Whether the pipeline has taken all that it was given out of this program's hands.
    pub fn has_taken_all(&self) -> bool {
        match &self.end {
            End::Source(source) => source.current_level_bytes() == 0,
            End::Sink(_) => true,
        }
    }

    /// Whether sound has passed.
    pub fn has_moved(&self) -> bool {
        self.moved
    }

    /// Gives whole frames to the pipeline.
    ///
    /// # Errors
    /// It takes none any more.
    pub fn push(&mut self, samples: Vec<u8>) -> Result<(), String> {
        let End::Source(source) = &self.end else {
            return Ok(());
        };
        let frames = (samples.len() / self.frame_bytes.max(1)) as u64;
        let time = frames.saturating_mul(gst::ClockTime::SECOND.nseconds()) / self.rate.max(1);
        let time = gst::ClockTime::from_nseconds(time);
        let now = self.pipeline.current_running_time();
        let start = match (self.next, now) {
            (Some(next), Some(now)) if now.saturating_sub(next) < PAUSE => next,
            (next, now) => now.or(next).unwrap_or(gst::ClockTime::ZERO),
        };
        self.next = start.checked_add(time);
        let mut buffer = gst::Buffer::from_mut_slice(samples);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(start);
            buffer.set_duration(time);
        }
        source
            .push_buffer(buffer)
            .map_err(|error| self.fault().unwrap_or_else(|| error.to_string()))?;
        self.moved = true;
        Ok(())
    }

    /// The next samples that were captured, if there are any.
    pub fn pull(&mut self) -> Option<Vec<u8>> {
        let End::Sink(sink) = &self.end else {
            return None;
        };
        let sample = sink.try_pull_sample(gst::ClockTime::ZERO)?;
        let samples = sample.buffer()?.map_readable().ok()?.to_vec();
        self.moved = true;
        Some(samples)
    }

    /// Ends the pipeline in order: what it was given goes where it is to go.
    ///
    /// # Errors
    /// It does not get there.
    pub fn finish(self) -> Result<(), String> {
        let End::Source(source) = &self.end else {
            return Ok(());
        };
        if !self.moved {
            return Ok(());
        }
        source.end_of_stream().map_err(|error| error.to_string())?;
        let bus = self.pipeline.bus();
        let kinds = [gst::MessageType::Error, gst::MessageType::Eos];
        let last = bus.and_then(|bus| bus.timed_pop_filtered(ENDING, &kinds));
        match last {
            Some(message) => words(&message).map_or(Ok(()), Err),
            None => Err(format!("the pipeline does not end within {ENDING}")),
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // It says so itself where it cannot.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn source(caps: &gst::Caps) -> AppSrc {
    let source = AppSrc::builder().caps(caps).format(gst::Format::Time);
    let source = source.is_live(true).build();
    // How much waits is looked at before more is given.
    source.set_max_bytes(0);
    source.set_latency(LATENCY, gst::ClockTime::NONE);
    source
}

fn sink(caps: &gst::Caps) -> AppSink {
    // The stream's clock says when samples are due; few of them wait here.
    AppSink::builder()
        .caps(caps)
        .sync(false)
        .max_buffers(4)
        .build()
}
