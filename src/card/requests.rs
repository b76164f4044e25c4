// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How the card carries out the requests of the control queue (virtio 1.3, 5.14.6).

use vm_memory::GuestMemoryMmap;

use super::Card;
use crate::audio::mixer::Target;
use crate::audio::{HostError, Nanos};
use crate::control::{self, Change, Verdict};
use crate::events::{Notice, Step};
use crate::pcm::Tally;
use crate::report::Report;
use crate::stream::{Event, State};
use crate::wire::{CTL_EVT_VALUE, QUEUE_CONTROL, Request, Status};

/// Requests that are answered in one wake-up: more than a driver sends at once, so that a flood of
/// them does not keep running streams waiting.
const REQUESTS: usize = 16;

impl Card {
    /// Answers what the driver has asked, in order.
    pub(super) fn answer_requests(&mut self, memory: &GuestMemoryMmap, now: Nanos) {
        let Some(mut ring) = self.rings.get_mut(QUEUE_CONTROL).and_then(Option::take) else {
            return;
        };
        for _ in 0..REQUESTS {
            match ring.take(memory) {
                Ok(Some(chain)) => {
                    #[cfg(fuzzing)]
                    crate::fuzz::record::message(QUEUE_CONTROL, &chain);
                    self.exchange.read(chain);
                    let status = self.answer_request(ring.is_retaken(), memory, now);
                    // The Linux driver tells nobody of what it has changed itself: the event does,
                    // and has to be there before the request is done.
                    self.tell_driver(memory, now);
                    let items = if status == Status::Ok {
                        &self.items[..]
                    } else {
                        &[]
                    };
                    let written = self.exchange.respond(memory, status, items);
                    ring.give_back(memory, self.exchange.head(), written);
                }
                Ok(None) => break,
                Err(error) => {
                    self.report(Report::RingLost(QUEUE_CONTROL, error));
                    break;
                }
            }
        }
        if let Some(place) = self.rings.get_mut(QUEUE_CONTROL) {
            *place = Some(ring);
        }
    }

    fn answer_request(&mut self, again: bool, memory: &GuestMemoryMmap, now: Nanos) -> Status {
        let step = self.exchange.request().as_ref().and_then(Step::of);
        let status = if again && self.is_done() {
            Status::Ok
        } else {
            self.judge_request(memory, now)
        };
        if let Some(step) = step.filter(|_| status == Status::Ok) {
            self.events.heard(step, now);
        }
        status
    }

    /// Whether the process that died had carried the request out, and not answered it any more. Those
    /// that may be repeated are.
    fn is_done(&self) -> bool {
        let (id, state) = match self.exchange.request() {
            Some(Request::Start(id)) => (id, State::Running),
            Some(Request::Stop(id)) => (id, State::Stopped),
            _ => return false,
        };
        let pcm = usize::try_from(id).ok().and_then(|id| self.pcms.get(id));
        pcm.is_some_and(|pcm| pcm.state == state)
    }

    fn judge_request(&mut self, memory: &GuestMemoryMmap, now: Nanos) -> Status {
        self.items.clear();
        // Longer responses than that are refused rather than allocated.
        let room = self.exchange.room().min(self.items.capacity());
        let request = self.exchange.request();
        if let (Some(Request::Element(request)), true) = (request, self.elements_accepted) {
            let answer = self.elements.answer(request, room, &mut self.items);
            if let Some(element) = answer.changed {
                self.element_has_changed(element);
            }
            return answer.status;
        }
        let pcms = &self.pcms;
        let verdict = control::judge(
            request,
            &self.infos,
            &self.chmaps,
            &self.jacks,
            |stream| pcms.get(stream).map(|pcm| pcm.state),
            room,
            &mut self.items,
        );
        match verdict {
            Verdict::Answer(status) => status,
            Verdict::Do(change) => {
                // What the driver queued before this request belongs to the time before it.
                self.take_messages(memory);
                self.carry_out(change, memory, now)
            }
        }
    }

    /// The driver has changed the values of an element.
    fn element_has_changed(&mut self, element: usize) {
        self.keep_values(element);
        self.tell(Notice::Control {
            id: element,
            mask: CTL_EVT_VALUE,
        });
        let target = Target::Control(element);
        if let Some(mirror) = self.mirrors.iter().find(|mirror| mirror.target == target) {
            return mirror.line.ask(self.elements.values(element));
        }
        let elements = &self.elements;
        for pcm in &mut self.pcms {
            let id = pcm.id;
            pcm.gain.set(|channel| elements.gain(id, channel));
        }
    }

    fn carry_out(&mut self, change: Change, memory: &GuestMemoryMmap, now: Nanos) -> Status {
        let Some(pcm) = self.pcms.get_mut(change.stream) else {
            return Status::BadMessage;
        };
        let host = &mut *self.host;
        let mut ring = self.rings.get_mut(pcm.queue()).and_then(Option::as_mut);
        let mut result = Ok(());
        // What it was before does not matter any more.
        pcm.give_up_resuming();
        match change.event {
            Event::SetParams => {
                pcm.flush(memory, ring, Status::Ok);
                host.release(pcm.id);
                pcm.params = change.params;
                pcm.lane
                    .set_frame_bytes(pcm.params.map_or(1, |params| params.frame_bytes()));
                if let Some(params) = &pcm.params {
                    pcm.gain.prepare(params);
                    pcm.meter.prepare(params);
                }
            }
            Event::Prepare => {
                pcm.flush(memory, ring, Status::Ok);
                let Some(params) = pcm.params else {
                    return Status::BadMessage;
                };
                pcm.tally = Tally::default();
                result = host.prepare(pcm.id, &params);
            }
            Event::Start => {
                pcm.tally.go_on();
                pcm.gain.settle();
                self.events.forget_xrun(pcm.id);
                if let Some(ring) = &mut ring {
                    pcm.serve(host, memory, ring, now);
                }
                result = pcm.start(host, now);
            }
            Event::Stop => {
                if let Some(ring) = &mut ring {
                    pcm.serve(host, memory, ring, now);
                }
                pcm.stop(host, now);
            }
            Event::Release => {
                pcm.flush(memory, ring, Status::Ok);
                host.release(pcm.id);
            }
        }
        self.conclude(change, result, now)
    }

    fn conclude(&mut self, change: Change, result: Result<(), HostError>, now: Nanos) -> Status {
        if let Err(error) = result {
            self.report(Report::Failed(change.stream, error));
            return Status::IoError;
        }
        let Some(pcm) = self.pcms.get_mut(change.stream) else {
            return Status::BadMessage;
        };
        pcm.state = change.after;
        let ring = self.rings.get(pcm.queue());
        pcm.note_state(&mut *self.host, ring.and_then(Option::as_ref), now);
        let (tally, params) = (pcm.tally, pcm.params);
        match (change.event, params) {
            (Event::SetParams, Some(params)) => {
                self.report(Report::Configured(change.stream, params));
            }
            (Event::Start, _) => self.report(Report::Started(change.stream)),
            (Event::Stop, _) => self.report(Report::Stopped(change.stream, tally)),
            _ => {}
        }
        Status::Ok
    }
}
