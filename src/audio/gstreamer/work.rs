// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the thread of a stream does: carries samples between the ring and the pipeline, and tries one
//! that has failed again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use super::super::HostError;
use super::pipeline::Pipeline;
use super::worker::{Order, Ring, Signs};
use crate::stream::Params;
use crate::wire::Direction;

/// How often samples are carried while sound runs.
const PACE: Duration = Duration::from_millis(5);
/// Bytes that are carried at once, at most.
const CHUNK: usize = 1 << 16;
/// Before a pipeline that has failed is tried again, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// One that has played so long is well again.
const WELL: Duration = Duration::from_secs(1);
/// How long what was played may take into the pipeline when the stream stops.
const SETTLING: Duration = Duration::from_millis(500);
/// A pipeline that takes nothing for so long has failed: less than fits into the ring.
const STUCK: Duration = Duration::from_secs(2);

/// The work for one stream.
pub struct Work {
    description: String,
    direction: Direction,
    stream: Option<(Params, Ring)>,
    running: bool,
    pipeline: Option<Pipeline>,
    /// When a pipeline that has failed is tried again.
    due: Option<Instant>,
    pause: Duration,
    /// A fault has been told, and the pipeline has not been well since.
    failing: bool,
    /// When the pipeline started, or took something last while it was full.
    since: Instant,
    /// Captured samples that the ring had no room for.
    rest: Vec<u8>,
    /// Who waits for the first captured samples.
    waiting: Option<SyncSender<()>>,
    faults: SyncSender<HostError>,
    signs: Arc<Signs>,
}

impl Work {
    /// The work for a stream that is not open yet; `failing` where the pipeline is known to fail now.
    pub fn new(
        description: &str,
        direction: Direction,
        failing: bool,
        faults: SyncSender<HostError>,
        signs: Arc<Signs>,
    ) -> Self {
        Self {
            description: description.to_owned(),
            direction,
            stream: None,
            running: false,
            pipeline: None,
            due: None,
            pause: FIRST_PAUSE,
            failing,
            since: Instant::now(),
            rest: Vec::new(),
            waiting: None,
            faults,
            signs,
        }
    }

    /// Carries out orders until there are none to come; then the pipeline ends in order.
    pub fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            let order = match self.pause() {
                Some(pause) => orders.recv_timeout(pause),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match order {
                Ok(order) => self.carry_out(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.close(),
            }
            self.serve();
        }
    }

    /// After what time there is something to do without an order; `None` where there is nothing.
    fn pause(&self) -> Option<Duration> {
        let (_, ring) = self.stream.as_ref()?;
        match (ring, &self.pipeline) {
            _ if self.running => Some(PACE),
            (Ring::Play(_), _) => None,
            // It is filled before it runs.
            (Ring::Capture(ring), _) if ring.slots() == 0 => None,
            (Ring::Capture(_), Some(pipeline)) => (!pipeline.is_at_its_end()).then_some(PACE),
            (Ring::Capture(_), None) => Some(self.due?.saturating_duration_since(Instant::now())),
        }
    }

    fn carry_out(&mut self, order: Order) {
        // An answer that nobody waits for any more is dropped.
        match order {
            Order::Open(params, ring, answer) => {
                self.close();
                self.stream = Some((params, ring));
                self.pause = FIRST_PAUSE;
                self.open();
                match self.direction {
                    Direction::Playback => {
                        let _ = answer.send(());
                    }
                    Direction::Capture => self.waiting = Some(answer),
                }
            }
            Order::Run => self.running = true,
            Order::Settle(answer) => {
                self.settle();
                self.running = false;
                let _ = answer.send(());
            }
            Order::Close(answer) => {
                self.close();
                let _ = answer.send(());
            }
        }
    }

    fn open(&mut self) {
        let Some((params, _)) = &self.stream else {
            return;
        };
        self.due = None;
        self.since = Instant::now();
        match Pipeline::start(&self.description, params, self.direction) {
            Ok(pipeline) => {
                self.signs.live.store(pipeline.live, Ordering::Release);
                self.pipeline = Some(pipeline);
            }
            Err(what) => self.fail(what),
        }
    }

    /// Ends the pipeline in order.
    fn close(&mut self) {
        self.settle();
        self.running = false;
        self.stream = None;
        self.rest.clear();
        self.waiting = None;
        self.due = None;
        if let Some(Err(what)) = self.pipeline.take().map(Pipeline::finish) {
            self.tell(what);
        }
    }

    /// Tells of a fault, once until it is over.
    fn tell(&mut self, what: String) {
        if !std::mem::replace(&mut self.failing, true) {
            let pipeline = self.description.clone();
            let fault = HostError::PipelineFailed { pipeline, what };
            let _ = self.faults.try_send(fault);
        }
    }

    /// The pipeline is tried again later.
    fn fail(&mut self, what: String) {
        self.tell(what);
        self.pipeline = None;
        self.rest.clear();
        self.due = Instant::now().checked_add(self.pause);
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
        // Silence starts now.
        self.waiting = None;
    }

    fn serve(&mut self) {
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.open();
        }
        if let Some(what) = self.pipeline.as_ref().and_then(Pipeline::fault) {
            return self.fail(what);
        }
        match self.direction {
            Direction::Playback => self.play(),
            Direction::Capture => self.capture(),
        }
        let well = self.pipeline.as_ref().is_some_and(Pipeline::has_moved);
        if self.failing && well && self.since.elapsed() >= WELL {
            self.failing = false;
            self.pause = FIRST_PAUSE;
            self.signs.returned.store(true, Ordering::Release);
        }
    }

    /// Carries what has been played into the pipeline; without one, it is not heard.
    fn play(&mut self) {
        let Some((params, Ring::Play(ring))) = &mut self.stream else {
            return;
        };
        let frame_bytes = params.frame_bytes() as usize;
        let mut stuck = None;
        loop {
            let room = self.pipeline.as_ref().map_or(CHUNK, Pipeline::room);
            let wanted = ring.slots().min(room).min(CHUNK) / frame_bytes * frame_bytes;
            if wanted == 0 {
                let full = ring.slots() > 0 && self.since.elapsed() > STUCK;
                stuck = full.then(|| "it takes no more sound".to_owned());
                break;
            }
            let Ok(chunk) = ring.read_chunk(wanted) else {
                break;
            };
            let (first, second) = chunk.as_slices();
            let samples = [first, second].concat();
            chunk.commit_all();
            let Some(pipeline) = &mut self.pipeline else {
                continue;
            };
            if let Err(what) = pipeline.push(samples) {
                stuck = Some(what);
                break;
            }
            if !self.failing {
                self.since = Instant::now();
            }
        }
        if ring.slots() == 0 && !self.failing {
            self.since = Instant::now();
        }
        if let Some(what) = stuck.filter(|_| self.pipeline.is_some()) {
            self.fail(what);
        }
    }

    /// Carries what has been captured into the ring.
    fn capture(&mut self) {
        let Some((_, Ring::Capture(ring))) = &mut self.stream else {
            return;
        };
        while ring.slots() > 0 {
            if self.rest.is_empty() {
                let Some(samples) = self.pipeline.as_mut().and_then(Pipeline::pull) else {
                    break;
                };
                self.rest = samples;
            }
            let part = self.rest.len().min(ring.slots());
            let Ok(mut chunk) = ring.write_chunk(part) else {
                break;
            };
            let (first, second) = chunk.as_mut_slices();
            let room = first.iter_mut().chain(second);
            for (to, from) in room.zip(self.rest.drain(..part)) {
                *to = from;
            }
            chunk.commit_all();
        }
        let full = ring.slots() == 0;
        let pipeline = self.pipeline.as_ref();
        if full || pipeline.is_some_and(|pipeline| pipeline.live || pipeline.is_at_its_end()) {
            let _ = self.waiting.take().map(|answer| answer.send(()));
        }
    }

    /// What has been played is in the pipeline.
    fn settle(&mut self) {
        if self.direction == Direction::Capture {
            return;
        }
        let end = Instant::now() + SETTLING;
        loop {
            self.serve();
            let empty = match &self.stream {
                Some((_, Ring::Play(ring))) => ring.is_empty(),
                _ => true,
            };
            let taken = self.pipeline.as_ref().is_none_or(Pipeline::has_taken_all);
            if (empty && taken) || Instant::now() > end {
                return;
            }
            std::thread::sleep(PACE / 5);
        }
    }
}
