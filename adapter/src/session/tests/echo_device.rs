// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A device process as rust-vmm makes them: sends back what it gets, reversed.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use vhost::vhost_user::{Listener, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringMutex, VringT};
use virtio_queue::QueueOwnedT;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// Features besides those of vhost-user itself.
pub const FEATURES: u64 = 1 << 32;

struct Echo {
    queues: usize,
    memory: Option<Memory>,
    config: Vec<u8>,
    exit: (EventConsumer, EventNotifier),
}

impl VhostUserBackendMut for Echo {
    type Bitmap = ();
    type Vring = VringMutex;

    fn num_queues(&self) -> usize {
        self.queues
    }

    fn max_queue_size(&self) -> usize {
        256
    }

    fn features(&self) -> u64 {
        FEATURES | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        self.config
            .iter()
            .skip(offset as usize)
            .take(size as usize)
            .copied()
            .collect()
    }

    fn set_config(&mut self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        let at = offset as usize;
        let room = self.config.get_mut(at..at + bytes.len());
        room.ok_or(io::ErrorKind::InvalidInput)?
            .copy_from_slice(bytes);
        Ok(())
    }

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.memory = Some(memory);
        Ok(())
    }

    fn exit_event(&self, _thread: usize) -> Option<(EventConsumer, EventNotifier)> {
        Some((self.exit.0.try_clone().ok()?, self.exit.1.try_clone().ok()?))
    }

    fn handle_event(
        &mut self,
        queue: u16,
        _events: EventSet,
        vrings: &[VringMutex],
        _thread: usize,
    ) -> io::Result<()> {
        let memory = self.memory.as_ref().unwrap().memory();
        let vring = &vrings[usize::from(queue)];
        let chains: Vec<_> = {
            let mut state = vring.get_mut();
            state
                .get_queue_mut()
                .iter(memory.clone())
                .unwrap()
                .collect()
        };
        for chain in chains {
            let head = chain.head_index();
            let mut text = Vec::new();
            chain
                .clone()
                .reader(&memory)
                .unwrap()
                .read_to_end(&mut text)?;
            text.reverse();
            chain.writer(&memory).unwrap().write_all(&text)?;
            vring.add_used(head, text.len() as u32).unwrap();
            vring.signal_used_queue()?;
        }
        Ok(())
    }
}

/// Starts an echo device on one connection; returns the adapter's end of it. The thread ends with
/// the connection.
pub fn start(folder: &Path, queues: usize, config: &[u8]) -> (UnixStream, JoinHandle<()>) {
    let path = folder.join("echo");
    let mut listener = Listener::new(&path, true).unwrap();
    let exit = new_event_consumer_and_notifier(EventFlag::NONBLOCK).unwrap();
    let echo = Echo {
        queues,
        memory: None,
        config: config.to_vec(),
        exit,
    };
    let thread = thread::spawn(move || {
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let echo = Arc::new(Mutex::new(echo));
        let mut daemon = VhostUserDaemon::new("echo".into(), echo, memory).unwrap();
        daemon.start(&mut listener).unwrap();
        // However the connection ends.
        let _ = daemon.wait();
    });
    (UnixStream::connect(path).unwrap(), thread)
}
