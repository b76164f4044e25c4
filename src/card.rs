// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The sound card that the driver sees: its queues, its streams and the host behind them. Owned by
//! the audio thread alone; nothing here blocks, locks or allocates while sound runs.

mod requests;
mod status;
mod survival;

use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

use crate::area::Area;
use crate::audio::mixer::{Line, Original, Target};
use crate::audio::{Host, Nanos};
use crate::channel_map;
use crate::control_elements::Elements;
use crate::description::Description;
use crate::events::{Events, Notice};
use crate::exchange::Exchange;
use crate::jack;
use crate::memory::Memory;
use crate::message::{Arrival, Decoder};
use crate::pcm::Pcm;
use crate::report::{Report, Reporter};
use crate::ring::{MAX_SIZE, Ring};
use crate::stream::State;
use crate::wire::{
    self, CHMAP_INFO_SIZE, CTL_EVT_VALUE, Chmap, Direction, F_CTLS, JackInfo, PCM_INFO_SIZE,
    PcmInfo, QUEUE_CONTROL, QUEUE_EVENT, QUEUE_RX, QUEUE_TX, QUEUES, Status,
};
pub use status::{CardStatus, StreamStatus};

/// The decoder of a queue's messages.
fn decoder_of(decoders: &mut [Decoder; 2], queue: usize) -> &mut Decoder {
    let [playback, capture] = decoders;
    if queue == QUEUE_TX { playback } else { capture }
}

/// What of the card a real card's element stands behind.
struct Mirror {
    target: Target,
    line: Arc<Line>,
    /// It can be changed.
    writable: bool,
    /// Nothing has been heard of it yet: its card is away.
    away: bool,
}

impl Mirror {
    fn new(original: &Original) -> Self {
        Self {
            target: original.target,
            line: Arc::clone(&original.line),
            writable: original.writable,
            away: original.away,
        }
    }
}

/// The card.
pub struct Card {
    pub(crate) host: Box<dyn Host>,
    infos: Vec<PcmInfo>,
    chmaps: Vec<Chmap>,
    jacks: Vec<JackInfo>,
    pub(crate) events: Events,
    pub(crate) pcms: Vec<Pcm>,
    pub(crate) rings: [Option<Ring>; QUEUES],
    pub(crate) memory: Option<Arc<Memory>>,
    decoders: [Decoder; 2],
    exchange: Exchange,
    items: Vec<u8>,
    elements: Elements,
    mirrors: Vec<Mirror>,
    /// The driver has accepted VIRTIO_SND_F_CTLS.
    elements_accepted: bool,
    reports: Reporter,
    /// The rings are stopped; what the host held was given back.
    pub(crate) suspended: bool,
    /// Where the next process finds how this one was.
    area: Option<Arc<Area>>,
    /// Where this one finds how the last one was, once the control queue is there.
    next_area: Option<Arc<Area>>,
    /// How many processes have gone on where another one had died.
    restarts: u64,
    /// Since when streams wait for their messages that another process had taken.
    pub(crate) restored: Option<Nanos>,
}

impl Card {
    /// A card in front of `host`, whose streams are those of `description`, and of the elements of
    /// real cards.
    pub fn new(
        host: Box<dyn Host>,
        description: &Description,
        originals: &[Original],
        reports: Reporter,
    ) -> Self {
        let infos = host.streams().to_vec();
        let chmaps = channel_map::of_card(&description.streams, &infos);
        let elements = Elements::new(&description.controls, &infos, originals);
        let mut jacks: Vec<_> = description.jacks.iter().map(jack::describe).collect();
        for original in originals {
            if let Target::Jack(id) = original.target
                && let Some(jack) = jacks.get_mut(id)
            {
                jack.connected = original.values.first() == Some(&1);
            }
        }
        let plugged = jacks.iter().map(|jack| jack.connected);
        let events = Events::new(plugged, infos.len(), elements.len());
        let pcms = infos
            .iter()
            .enumerate()
            .map(|(id, info)| {
                let mut pcm = Pcm::new(id, *info);
                pcm.gain.set(|channel| elements.gain(id, channel));
                pcm.gain.settle();
                pcm
            })
            .collect();
        let lists = (infos.len() * PCM_INFO_SIZE).max(chmaps.len() * CHMAP_INFO_SIZE);
        Self {
            host,
            infos,
            chmaps,
            jacks,
            events,
            pcms,
            rings: Default::default(),
            memory: None,
            decoders: [
                Decoder::new(Direction::Playback),
                Decoder::new(Direction::Capture),
            ],
            exchange: Exchange::new(),
            // Twice what is needed: a driver of a later specification may ask for longer items.
            items: Vec::with_capacity(2 * lists.max(elements.longest_response()).max(2048)),
            elements,
            mirrors: originals.iter().map(Mirror::new).collect(),
            elements_accepted: false,
            reports,
            suspended: false,
            area: None,
            next_area: None,
            restarts: 0,
            restored: None,
        }
    }

    /// The configuration space, which does not change.
    pub fn config_space(&self) -> [u8; 16] {
        wire::config_space(
            self.jacks.len() as u32,
            self.infos.len() as u32,
            self.chmaps.len() as u32,
            self.elements.len() as u32,
        )
    }

    /// The device's own features; those of its transport are the session's.
    pub fn features(&self) -> u64 {
        if self.elements.len() > 0 { F_CTLS } else { 0 }
    }

    /// What the driver has accepted of [`Card::features`].
    pub fn accept_features(&mut self, features: u64) {
        self.elements_accepted = features & F_CTLS != 0;
    }

    /// Tells the log.
    pub(crate) fn report(&self, report: Report) {
        self.reports.report(report);
    }

    /// One wake-up: takes messages, answers requests, serves running streams, interrupts the driver
    /// at most once for each queue. Returns whether more messages are waiting already.
    pub fn serve(&mut self, now: Nanos) -> bool {
        self.host.wake(now);
        self.follow_real_cards();
        // Rings that their driver is taking away are left alone.
        let memory = self.memory.clone().filter(|_| !self.suspended);
        let waiting = memory.is_some_and(|memory| self.serve_rings(memory.map(), now));
        for pcm in &self.pcms {
            if pcm.state != State::Running || self.suspended {
                self.host.rest(pcm.id, now);
            }
        }
        // A sound card that cannot be opened is told of before a driver comes.
        self.report_faults();
        waiting
    }

    fn serve_rings(&mut self, memory: &GuestMemoryMmap, now: Nanos) -> bool {
        self.decoders.iter_mut().for_each(Decoder::wake);
        if !self.resume_streams(memory, now) {
            self.answer_requests(memory, now);
        }
        self.take_messages(memory);
        // Playback comes first: what it plays, a loop captures in the same wake-up.
        for direction in [Direction::Playback, Direction::Capture] {
            let Some(Some(ring)) = self.rings.get_mut(direction.queue()) else {
                continue;
            };
            for pcm in self
                .pcms
                .iter_mut()
                .filter(|pcm| pcm.info.direction == direction)
            {
                if pcm.state == State::Running {
                    pcm.serve(&mut *self.host, memory, ring, now);
                }
                if pcm.take_xrun() {
                    self.events.tell(Notice::Xrun { stream: pcm.id });
                }
            }
        }
        self.tell_driver(memory, now);
        // Before the driver hears of anything: it does not kick for its answer to that.
        let waiting = self.listen(memory, now);
        for ring in self.rings.iter_mut().flatten() {
            ring.announce(memory);
        }
        waiting
    }

    /// Takes over what real cards have changed by themselves, and has the driver told.
    fn follow_real_cards(&mut self) {
        let mut mirrors = std::mem::take(&mut self.mirrors);
        for mirror in &mut mirrors {
            let Some(mut values) = mirror.line.news() else {
                continue;
            };
            mirror.away = false;
            match mirror.target {
                Target::Control(id) => {
                    if !self.elements.follow(id, values) {
                        continue;
                    }
                    self.keep_values(id);
                    if self.elements_accepted {
                        let mask = CTL_EVT_VALUE;
                        self.tell(Notice::Control { id, mask });
                    }
                }
                Target::Jack(id) => {
                    let plugged = values.next() == Some(1);
                    self.tell(Notice::Jack { id, plugged });
                }
            }
        }
        self.mirrors = mirrors;
    }

    fn report_faults(&mut self) {
        for id in 0..self.pcms.len() {
            if let Some(error) = self.host.fault(id) {
                self.set_away(id, true);
                self.report(Report::Failed(id, error));
            }
            if self.host.returned(id) {
                self.set_away(id, false);
                self.report(Report::Returned(id));
            }
        }
        self.reports.flush();
    }

    fn set_away(&mut self, id: usize, away: bool) {
        if let Some(pcm) = self.pcms.get_mut(id) {
            pcm.away = away;
        }
    }

    /// When the card has to be served next, if no driver kicks before.
    pub fn deadline(&mut self, now: Nanos) -> Option<Nanos> {
        let host = &mut *self.host;
        if self.suspended || self.memory.is_none() {
            // What the host still holds is given back in time.
            let upkeep = self.pcms.iter().filter_map(|pcm| host.upkeep(pcm.id, now));
            return upkeep.filter(|&time| time > now).min();
        }
        self.pcms
            .iter()
            .filter_map(|pcm| pcm.deadline(host, now))
            .chain(self.events.deadline(now))
            .chain(
                self.restored
                    .map(|since| since.saturating_add(survival::PATIENCE))
                    .filter(|&late| late > now),
            )
            .min()
    }

    /// Takes note of news, and has the driver told at the end of this wake-up, or as soon as it can
    /// be told.
    pub fn tell(&mut self, notice: Notice) {
        if let Notice::Jack { id, plugged } = notice
            && let Some(jack) = self.jacks.get_mut(id)
        {
            jack.connected = plugged;
            self.keep_jack(id);
        }
        self.events.tell(notice);
    }

    /// Writes what is to be told into the room that the driver has for it, and interrupts it.
    fn tell_driver(&mut self, memory: &GuestMemoryMmap, now: Nanos) {
        let Some(Some(ring)) = self.rings.get_mut(QUEUE_EVENT) else {
            return;
        };
        let delivered = self.events.deliver(ring, memory, now);
        ring.announce(memory);
        if let Err(error) = delivered {
            self.report(Report::RingLost(QUEUE_EVENT, error));
        }
    }

    /// Lets the driver kick where nothing else wakes the card in time: while streams run, their
    /// clock does. Returns whether messages are waiting already.
    fn listen(&mut self, memory: &GuestMemoryMmap, now: Nanos) -> bool {
        let mut waiting = false;
        for (queue, ring) in self.rings.iter_mut().enumerate() {
            let wanted = match queue {
                QUEUE_CONTROL => true,
                // The Linux driver fills this queue without a kick, but kicks for what it puts back.
                QUEUE_EVENT => self.events.needs_room(),
                QUEUE_TX | QUEUE_RX => {
                    let mut streams = self.pcms.iter().filter(|pcm| pcm.queue() == queue);
                    // What waits for START, RELEASE or PREPARE is found when they come.
                    let kept = streams.clone().any(|pcm| pcm.state.takes_messages());
                    !kept || streams.any(|pcm| pcm.wants_kick(now))
                }
                _ => false,
            };
            if let Some(ring) = ring {
                waiting |= ring.listen(memory, wanted);
            }
        }
        waiting
    }

    /// Takes the messages off the tx and rx rings.
    fn take_messages(&mut self, memory: &GuestMemoryMmap) {
        for queue in [QUEUE_TX, QUEUE_RX] {
            let Some(mut ring) = self.rings.get_mut(queue).and_then(Option::take) else {
                continue;
            };
            // A driver that adds faster than this loop takes does not keep the card from its clock.
            for _ in 0..MAX_SIZE {
                if decoder_of(&mut self.decoders, queue).has_enough() {
                    break;
                }
                match ring.take(memory) {
                    Ok(Some(chain)) => self.take_message(queue, chain, memory, &mut ring),
                    Ok(None) => break,
                    Err(error) => {
                        self.report(Report::RingLost(queue, error));
                        break;
                    }
                }
            }
            if let Some(place) = self.rings.get_mut(queue) {
                *place = Some(ring);
            }
        }
    }

    fn take_message(
        &mut self,
        queue: usize,
        chain: virtio_queue::DescriptorChain<&GuestMemoryMmap>,
        memory: &GuestMemoryMmap,
        ring: &mut Ring,
    ) {
        let decoder = decoder_of(&mut self.decoders, queue);
        #[cfg(fuzzing)]
        crate::fuzz::record::message(queue, &chain);
        let arrival = decoder.decode(chain);
        let refused = Self::refusal(&mut self.pcms, queue, decoder, arrival, ring.serial());
        if let Some(status) = refused {
            let written = decoder.answer(memory, arrival, status);
            ring.give_back(memory, arrival.head, written);
        }
    }

    /// Puts a message into its stream's lane, or says with which status it is given back at once.
    fn refusal(
        pcms: &mut [Pcm],
        queue: usize,
        decoder: &Decoder,
        arrival: Arrival,
        serial: u64,
    ) -> Option<Status> {
        let id = arrival.stream.and_then(|id| usize::try_from(id).ok());
        let pcm = id.and_then(|id| pcms.get_mut(id));
        let pcm = pcm.filter(|pcm| pcm.queue() == queue);
        let Some(pcm) = pcm.filter(|_| arrival.reachable && arrival.answerable) else {
            return Some(Status::BadMessage);
        };
        if !pcm.state.takes_messages() {
            return Some(Status::IoError);
        }
        if !pcm.lane.fits(arrival.bytes) {
            return Some(Status::BadMessage);
        }
        (!pcm.lane.push(decoder, arrival, serial)).then_some(Status::IoError)
    }
}

#[cfg(test)]
mod tests;
