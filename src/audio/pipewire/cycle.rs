// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is done with a stream's buffers in each cycle of the graph, in the library's real-time thread. Takes no
//! lock, allocates nothing, waits for nobody.

use pipewire::buffer::Buffer;
use pipewire::stream::{Stream, StreamListener, StreamRc};

use super::feed::{Capture, Playback};
use super::meter::Cycle;
use crate::audio::Nanos;
use crate::stream::Params;
use crate::time::now;

/// The graph's end of a stream.
pub enum Feed {
    /// It plays.
    Playback(Playback),
    /// It captures.
    Capture(Capture),
}

/// Has the graph call the feed in each cycle. Nothing else is listened to here: the library gives all functions
/// of one listener the same data, and calls the others from the server's thread.
///
/// # Errors
/// The library has no room for the listener.
pub fn listen_to_cycles(
    stream: &StreamRc,
    mut feed: Feed,
    params: &Params,
) -> Result<StreamListener<()>, pipewire::Error> {
    let rate = params.rate;
    let stride = i32::try_from(params.frame_bytes()).unwrap_or(i32::MAX);
    let cycle = real_time(move |stream: &Stream, (): &mut ()| {
        let clock = clock_of(stream, rate);
        // A capture stream that was late finds several.
        while let Some(mut buffer) = stream.dequeue_buffer() {
            match &mut feed {
                Feed::Playback(feed) => {
                    play(feed, &mut buffer, clock, stride);
                    break;
                }
                Feed::Capture(feed) => capture(feed, &mut buffer, clock),
            }
        }
    });
    let listener = stream.add_local_listener::<()>();
    listener.process(cycle).register()
}

/// What goes to another thread has to be fit for that, which the library does not ask for.
fn real_time<F: FnMut(&Stream, &mut ()) + Send + 'static>(function: F) -> F {
    function
}

/// When the cycle is, and what lies between it and the hardware.
fn clock_of(stream: &Stream, rate: u32) -> Cycle {
    let now = now();
    let Ok(time) = stream.time() else {
        return Cycle {
            at: now,
            ..Cycle::default()
        };
    };
    let at = Nanos::try_from(time.now()).unwrap_or(now);
    let delay = u128::try_from(time.delay()).unwrap_or(0);
    let (num, denom) = (time.rate().num, time.rate().denom.max(1));
    let frames = delay * u128::from(num) * u128::from(rate) / u128::from(denom);
    Cycle {
        frames: 0,
        // A graph whose clock is another one.
        at: if at.abs_diff(now) > 1_000_000_000 {
            now
        } else {
            at
        },
        delay: u64::try_from(frames)
            .unwrap_or(u64::MAX)
            .saturating_add(time.buffered()),
    }
}

fn play(feed: &mut Playback, buffer: &mut Buffer<'_>, clock: Cycle, stride: i32) {
    let frames = buffer.requested();
    let Some(data) = buffer.datas_mut().first_mut() else {
        return;
    };
    let cycle = Cycle { frames, ..clock };
    let bytes = data.data().map_or(0, |room| feed.fill(room, &cycle));
    let chunk = data.chunk_mut();
    *chunk.offset_mut() = 0;
    *chunk.stride_mut() = stride;
    *chunk.size_mut() = u32::try_from(bytes).unwrap_or(0);
}

fn capture(feed: &mut Capture, buffer: &mut Buffer<'_>, clock: Cycle) {
    let Some(data) = buffer.datas_mut().first_mut() else {
        return;
    };
    let (offset, size) = (data.chunk().offset() as usize, data.chunk().size() as usize);
    if let Some(samples) = data.data() {
        feed.take(samples, offset, size, &clock);
    }
}
