// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A vhost-user frontend on the `vhost` crate; says what the adapter says, in the same order.

use std::fs::File;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight};
use vhost::vhost_user::{Frontend as Protocol, VhostUserFrontend};
use vhost::vhost_user::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};

use crate::driver::Virtqueue;
use crate::memory::{SIZE, SharedMemory};
use crate::raw_frontend::RawFrontend;

pub const VERSION_1: u64 = 1 << 32;
pub const INDIRECT_DESC: u64 = 1 << 28;
pub const EVENT_IDX: u64 = 1 << 29;
/// `VIRTIO_SND_F_CTLS`
pub const CTLS: u64 = 1 << 0;
/// A connection that takes longer hangs.
const CONNECTION_LIMIT: Duration = Duration::from_secs(120);

/// Says something and waits for the answer.
type Say<'a> = Box<dyn FnMut(&mut Protocol) -> vhost::Result<()> + 'a>;

/// One message of the sequence that puts queues into service.
struct Step<'a> {
    name: String,
    say: Say<'a>,
}

fn step<'a>(name: &str, say: impl FnMut(&mut Protocol) -> vhost::Result<()> + 'a) -> Step<'a> {
    Step {
        name: name.to_owned(),
        say: Box::new(say),
    }
}

/// What a frontend keeps of its devices (GET_INFLIGHT_FD).
pub struct Kept {
    pub message: VhostUserInflight,
    pub file: File,
}

/// A connected frontend.
pub struct Frontend {
    protocol: Protocol,
    /// How long it takes before each queue.
    pub hesitation: Duration,
    socket: UnixStream,
    // Ends the thread that watches over the connection.
    _watched: Sender<()>,
}

impl Frontend {
    /// A frontend that has said nothing yet.
    pub fn new(socket: UnixStream) -> Self {
        let protocol = Protocol::from_stream(socket.try_clone().unwrap(), 4);
        let watched = socket.try_clone().unwrap();
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            // The `vhost` crate waits for ever.
            if receiver.recv_timeout(CONNECTION_LIMIT) == Err(RecvTimeoutError::Timeout) {
                let _ = watched.shutdown(Shutdown::Both);
            }
        });
        Self {
            protocol,
            hesitation: Duration::ZERO,
            socket,
            _watched: sender,
        }
    }

    /// SET_OWNER to SET_PROTOCOL_FEATURES.
    pub fn negotiate(&mut self) {
        self.say(greeting(), usize::MAX);
    }

    /// The features that the device offers.
    pub fn features(&self) -> u64 {
        self.protocol.get_features().unwrap()
    }

    pub fn protocol(&mut self) -> &mut Protocol {
        &mut self.protocol
    }

    /// The same connection, to say there what no well-made frontend would.
    pub fn raw(&self) -> RawFrontend {
        RawFrontend::new(self.socket.try_clone().unwrap())
    }

    /// GET_CONFIG within bounds.
    pub fn config(&mut self, offset: u32, size: u32) -> Vec<u8> {
        let flags = VhostUserConfigFlags::empty();
        let room = vec![0; size as usize];
        let answer = self.protocol.get_config(offset, size, flags, &room);
        answer.unwrap().1
    }

    /// Puts queues into service; `bases` are their indices to start at. Stops after `limit`
    /// messages; returns how many there were.
    pub fn start(
        &mut self,
        memory: &SharedMemory,
        queues: &[Virtqueue],
        bases: &[u16],
        features: u64,
        limit: usize,
    ) -> usize {
        let mut steps = greeting();
        steps.extend(service(memory, queues, bases, features));
        self.say(steps, limit)
    }

    /// Puts queues into service as a frontend does that knows no protocol features: without
    /// acknowledgements, and without SET_VRING_ENABLE.
    pub fn start_without_protocol_features(
        &mut self,
        memory: &SharedMemory,
        queues: &[Virtqueue],
        features: u64,
    ) {
        let mut steps: Vec<_> = greeting().into_iter().take(2).collect();
        steps.push(step("SET_FEATURES", move |f| f.set_features(features)));
        steps.extend(
            service(memory, queues, &[0; 4], features)
                .into_iter()
                .skip(1),
        );
        steps.retain(|step| step.name != "SET_VRING_ENABLE");
        self.say(steps, usize::MAX);
    }

    /// Puts queues into service after [`Frontend::stop`].
    pub fn start_again(
        &mut self,
        memory: &SharedMemory,
        queues: &[Virtqueue],
        bases: &[u16],
        features: u64,
    ) {
        let steps = service(memory, queues, bases, features);
        self.say(steps, usize::MAX);
    }

    /// GET_INFLIGHT_FD
    pub fn make_inflight(&mut self, queue_size: u16) -> Kept {
        let asked = VhostUserInflight::new(0, 0, 4, queue_size);
        let (message, file) = self.protocol.get_inflight_fd(&asked).unwrap();
        Kept { message, file }
    }

    /// SET_INFLIGHT_FD
    pub fn set_inflight(&mut self, kept: &Kept) {
        let file = kept.file.as_raw_fd();
        self.protocol.set_inflight_fd(&kept.message, file).unwrap();
    }

    /// GET_VRING_BASE for every queue.
    pub fn stop(&mut self, queues: usize) -> Vec<u16> {
        let stop = |queue| self.protocol.get_vring_base(queue).unwrap() as u16;
        (0..queues).map(stop).collect()
    }

    fn say(&mut self, steps: Vec<Step>, limit: usize) -> usize {
        let count = steps.len().min(limit);
        for mut step in steps.into_iter().take(limit) {
            if step.name == "SET_VRING_NUM" {
                std::thread::sleep(self.hesitation);
            }
            let answer = (step.say)(&mut self.protocol);
            answer.unwrap_or_else(|error| panic!("{}: {error:?}", step.name));
        }
        count
    }
}

/// A process that dies closes its socket at once; here a thread may still hold it.
impl Drop for Frontend {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

fn greeting<'a>() -> Vec<Step<'a>> {
    let protocol_features = VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::INFLIGHT_SHMFD;
    vec![
        step("SET_OWNER", |f| f.set_owner()),
        step("GET_FEATURES", |f| {
            let offered = f.get_features()?;
            let wanted = VERSION_1 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
            assert_eq!(offered & wanted, wanted);
            Ok(())
        }),
        step("GET_PROTOCOL_FEATURES", move |f| {
            assert!(f.get_protocol_features()?.contains(protocol_features));
            Ok(())
        }),
        step("SET_PROTOCOL_FEATURES", move |f| {
            f.set_protocol_features(protocol_features)?;
            f.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
            Ok(())
        }),
        step("GET_QUEUE_NUM", |f| {
            assert_eq!(f.get_queue_num()?, 4);
            Ok(())
        }),
    ]
}

fn service<'a>(
    memory: &'a SharedMemory,
    queues: &'a [Virtqueue],
    bases: &'a [u16],
    features: u64,
) -> Vec<Step<'a>> {
    let features = features | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
    let mut steps = vec![
        step("SET_FEATURES", move |f| f.set_features(features)),
        step("SET_MEM_TABLE", |f| {
            let region = VhostUserMemoryRegionInfo {
                guest_phys_addr: 0,
                memory_size: SIZE,
                userspace_addr: memory.user_address(),
                mmap_offset: 0,
                mmap_handle: memory.fd(),
            };
            f.set_mem_table(&[region]).map(|_| ())
        }),
    ];
    for (index, (queue, &base)) in queues.iter().zip(bases).enumerate() {
        let start = memory.user_address();
        let addresses = VringConfigData {
            queue_max_size: queue.size,
            queue_size: queue.size,
            flags: 0,
            desc_table_addr: start + queue.desc,
            used_ring_addr: start + queue.used,
            avail_ring_addr: start + queue.avail,
            log_addr: None,
        };
        steps.push(step("SET_VRING_NUM", move |f| {
            f.set_vring_num(index, queue.size)
        }));
        steps.push(step("SET_VRING_ADDR", move |f| {
            f.set_vring_addr(index, &addresses)
        }));
        steps.push(step("SET_VRING_BASE", move |f| {
            f.set_vring_base(index, base)
        }));
        steps.push(step("SET_VRING_CALL", move |f| {
            f.set_vring_call(index, &queue.call)
        }));
        steps.push(step("SET_VRING_KICK", move |f| {
            f.set_vring_kick(index, &queue.kick)
        }));
        steps.push(step("SET_VRING_ENABLE", move |f| {
            f.set_vring_enable(index, true)
        }));
    }
    steps
}
