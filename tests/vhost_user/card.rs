// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A virtio sound device in service: memory, four queues, a frontend, and messages of any shape.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::device::Device;
use crate::driver::{Buffer, LIMIT, Used, Virtqueue};
use crate::frontend::{EVENT_IDX, Frontend, INDIRECT_DESC, Kept, VERSION_1};
use crate::memory::SharedMemory;

pub const CONTROL: usize = 0;
pub const EVENT: usize = 1;
pub const TX: usize = 2;
pub const RX: usize = 3;

/// What the room for answers holds before the device writes there.
pub const UNTOUCHED: u8 = 0xee;

/// Bytes of an I/O message's status.
pub const STATUS_BYTES: u32 = 8;

/// An I/O message that has come back.
#[derive(Debug)]
pub struct Completion {
    pub head: u16,
    /// Bytes that the device says it has written.
    pub length: u32,
    pub status: u32,
    pub latency_bytes: u32,
    /// Capture: what the room for samples holds.
    pub samples: Vec<u8>,
}

/// The answer to a control request.
#[derive(Debug)]
pub struct Response {
    /// Bytes that the device says it has written.
    pub length: u32,
    /// The first word of the room; all [`UNTOUCHED`] where the device wrote none.
    pub status: u32,
    /// The rest of the room.
    pub items: Vec<u8>,
}

/// Where an I/O message's answer is.
struct Message {
    room: Vec<Buffer>,
    status_at: u64,
}

/// The driver's view of the device.
pub struct Card {
    pub memory: Rc<SharedMemory>,
    pub queues: Vec<Virtqueue>,
    pub frontend: Option<Frontend>,
    pub features: u64,
    messages: HashMap<(usize, u16), Message>,
    request_at: u64,
}

/// Room for one control request, and for its answer behind it.
const REQUEST_ROOM: u64 = 4096;

impl Card {
    /// Queues of 256 entries with EVENT_IDX.
    pub fn attach(device: &Device) -> Self {
        Self::attach_with(device, [256; 4], EVENT_IDX)
    }

    /// Queues of these sizes, VERSION_1 and these features.
    pub fn attach_with(device: &Device, sizes: [u16; 4], features: u64) -> Self {
        let mut card = Self::unattached(sizes, features);
        card.reattach(device.connect());
        card
    }

    /// Queues that nobody serves yet.
    pub fn unattached(sizes: [u16; 4], features: u64) -> Self {
        let memory = Rc::new(SharedMemory::new());
        let event_idx = features & EVENT_IDX != 0;
        let queue = |size| Virtqueue::new(&memory, size, event_idx);
        let queues = sizes.map(queue).into();
        let request_at = memory.allocate(2 * REQUEST_ROOM, true);
        Self {
            memory,
            queues,
            frontend: None,
            features: features | VERSION_1,
            messages: HashMap::new(),
            request_at,
        }
    }

    /// The frontend dies.
    pub fn detach(&mut self) {
        self.frontend = None;
    }

    /// A new frontend takes over where the used rings say the last one was.
    pub fn reattach(&mut self, socket: UnixStream) {
        let mapping = self.memory.mapped_again();
        let bases: Vec<_> = self
            .queues
            .iter()
            .map(Virtqueue::used_index_in_memory)
            .collect();
        self.queues.iter_mut().for_each(Virtqueue::renew_eventfds);
        let mut frontend = Frontend::new(socket);
        frontend.start(&mapping, &self.queues, &bases, self.features, usize::MAX);
        self.frontend = Some(frontend);
        // What the driver added meanwhile was kicked for in vain.
        self.queues.iter_mut().for_each(Virtqueue::kick_anyway);
    }

    /// The same with an area for what is in flight, made where there is none yet.
    pub fn reattach_keeping(&mut self, socket: UnixStream, kept: &mut Option<Kept>) {
        self.reattach_slowly(socket, kept, Duration::ZERO);
    }

    /// The same, with a pause before each queue.
    pub fn reattach_slowly(
        &mut self,
        socket: UnixStream,
        kept: &mut Option<Kept>,
        pause: Duration,
    ) {
        let mapping = self.memory.mapped_again();
        let used = self.queues.iter().map(Virtqueue::used_index_in_memory);
        let bases: Vec<_> = used.collect();
        self.queues.iter_mut().for_each(Virtqueue::renew_eventfds);
        let mut frontend = Frontend::new(socket);
        frontend.negotiate();
        let size = self.queues[TX].size;
        let kept = kept.get_or_insert_with(|| frontend.make_inflight(size));
        frontend.set_inflight(kept);
        frontend.hesitation = pause;
        frontend.start_again(&mapping, &self.queues, &bases, self.features);
        self.frontend = Some(frontend);
        self.queues.iter_mut().for_each(Virtqueue::kick_anyway);
    }

    /// The driver resets the device and starts anew.
    pub fn reset(&mut self) {
        let frontend = self.frontend.as_mut().unwrap();
        frontend.stop(self.queues.len());
        self.forget();
        let frontend = self.frontend.as_mut().unwrap();
        frontend.start_again(&self.memory, &self.queues, &[0; 4], self.features);
    }

    /// The driver lets go of the device, and the frontend goes.
    pub fn leave(mut self) {
        let queues = self.queues.len();
        self.frontend.as_mut().unwrap().stop(queues);
    }

    /// The driver forgets everything, as it does in a reset.
    pub fn forget(&mut self) {
        self.queues.iter_mut().for_each(Virtqueue::reset);
        self.messages.clear();
    }

    /// A control request of two descriptors with `room` bytes for the answer.
    pub fn request(&mut self, request: &[u8], room: u32) -> Response {
        let length = u32::try_from(request.len()).unwrap();
        let answer_at = self.request_at + REQUEST_ROOM;
        self.memory.write(self.request_at, request);
        self.memory
            .write(answer_at, &vec![UNTOUCHED; room.max(4) as usize]);
        let parts = [
            Buffer::readable(self.request_at, length),
            Buffer::writable(answer_at, room),
        ];
        let used = self.exchange(CONTROL, &parts);
        let answer = self.memory.read(answer_at, room.max(4) as usize);
        Response {
            length: used.length,
            status: u32::from_le_bytes(answer[..4].try_into().unwrap()),
            items: answer[4..].to_vec(),
        }
    }

    /// Adds a chain, kicks, and waits until it comes back.
    pub fn exchange(&mut self, queue: usize, parts: &[Buffer]) -> Used {
        let queue = &mut self.queues[queue];
        let head = queue.add(parts);
        queue.kick();
        let used = queue.wait_used();
        assert_eq!(used.head, head);
        used
    }

    /// Room that holds `bytes`, at a place of its own.
    pub fn bytes(&self, bytes: &[u8]) -> u64 {
        let at = self.memory.allocate(bytes.len() as u64, false);
        self.memory.write(at, bytes);
        at
    }

    /// Room for an I/O status that the device has not touched.
    pub fn status_room(&self) -> u64 {
        self.bytes(&[UNTOUCHED; STATUS_BYTES as usize])
    }

    /// Queues samples for a stream as the Linux driver does: header, one descriptor for each page,
    /// status. Does not kick.
    pub fn queue_playback(&mut self, stream: u32, samples: &[u8]) -> u16 {
        let header = self.bytes(&stream.to_le_bytes());
        let at = self.memory.allocate(samples.len() as u64, true);
        self.memory.write(at, samples);
        let mut parts = vec![Buffer::readable(header, 4)];
        parts.extend(pages(at, samples.len()).map(|(at, length)| Buffer::readable(at, length)));
        self.queue_message(TX, parts, Vec::new())
    }

    /// Queues samples in messages of `period_bytes`, the last one with what is left; returns their
    /// heads. Does not kick.
    pub fn queue_periods(&mut self, stream: u32, samples: &[u8], period_bytes: usize) -> Vec<u16> {
        let periods = samples.chunks(period_bytes);
        periods
            .map(|period| self.queue_playback(stream, period))
            .collect()
    }

    /// Queues a playback message that has come back once more, whatever its descriptors are by now. Does not
    /// kick.
    pub fn queue_playback_again(&mut self, chain: &[u16], status_at: u64) {
        self.memory
            .write(status_at, &[UNTOUCHED; STATUS_BYTES as usize]);
        let room = Vec::new();
        let message = Message { room, status_at };
        self.messages.insert((TX, chain[0]), message);
        self.queues[TX].add_again(chain);
    }

    /// As queue_playback, header and samples in one descriptor: two descriptors in all.
    pub fn queue_short_playback(&mut self, stream: u32, samples: &[u8]) -> u16 {
        let message = [&stream.to_le_bytes()[..], samples].concat();
        let at = self.bytes(&message);
        let parts = vec![Buffer::readable(at, u32::try_from(message.len()).unwrap())];
        self.queue_message(TX, parts, Vec::new())
    }

    /// Queues room for `bytes` bytes of samples. Does not kick.
    pub fn queue_capture(&mut self, stream: u32, bytes: usize) -> u16 {
        let header = self.bytes(&stream.to_le_bytes());
        let at = self.memory.allocate(bytes as u64, true);
        self.memory.write(at, &vec![UNTOUCHED; bytes]);
        let room: Vec<_> = pages(at, bytes)
            .map(|(at, length)| Buffer::writable(at, length))
            .collect();
        let mut parts = vec![Buffer::readable(header, 4)];
        parts.extend(&room);
        self.queue_message(RX, parts, room)
    }

    fn queue_message(&mut self, queue: usize, mut parts: Vec<Buffer>, room: Vec<Buffer>) -> u16 {
        let status_at = self.status_room();
        parts.push(Buffer::writable(status_at, STATUS_BYTES));
        let indirect = self.features & INDIRECT_DESC != 0;
        let queue_of_message = &mut self.queues[queue];
        let head = if indirect {
            let table = queue_of_message.table(&parts);
            queue_of_message.add_table(table)
        } else {
            queue_of_message.add(&parts)
        };
        let message = Message { room, status_at };
        self.messages.insert((queue, head), message);
        head
    }

    /// Kicks a queue, if the device wants that.
    pub fn kick(&mut self, queue: usize) {
        self.queues[queue].kick();
    }

    /// Waits for something that the device does by itself.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !condition(self) {
            assert!(Instant::now() < end, "not within the limit: {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for the next I/O message to come back.
    pub fn completion(&mut self, queue: usize) -> Completion {
        let used = self.queues[queue].wait_used();
        self.complete(queue, used)
    }

    /// The next I/O message that has come back already.
    pub fn completed(&mut self, queue: usize) -> Option<Completion> {
        let used = self.queues[queue].take_used()?;
        Some(self.complete(queue, used))
    }

    fn complete(&mut self, queue: usize, used: Used) -> Completion {
        let message = self.messages.remove(&(queue, used.head)).unwrap();
        let status = self.memory.read(message.status_at, STATUS_BYTES as usize);
        let samples = message.room.iter();
        let samples = samples.flat_map(|part| self.memory.read(part.address, part.length as usize));
        Completion {
            head: used.head,
            length: used.length,
            status: u32::from_le_bytes(status[..4].try_into().unwrap()),
            latency_bytes: u32::from_le_bytes(status[4..].try_into().unwrap()),
            samples: samples.collect(),
        }
    }
}

/// The pages of a buffer that starts at a page: address and length of each.
fn pages(at: u64, bytes: usize) -> impl Iterator<Item = (u64, u32)> {
    let starts = (0..bytes).step_by(4096);
    starts.map(move |start| (at + start as u64, (bytes - start).min(4096) as u32))
}
