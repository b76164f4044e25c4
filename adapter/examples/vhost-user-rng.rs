// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A virtio entropy device in a process of its own, served over vhost-user: the smallest device
//! process there is (virtio 1.3, section 5.4). `/dev/hwrng` reads what /dev/urandom gives it here.
//!
//! ```text
//! cargo run -p virtio-loopback --example vhost-user-rng -- /run/rng/device.sock
//! virtio-loopback run --name rng --device rng --socket /run/rng/device.sock
//! ```

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use vhost::vhost_user::{Listener, VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackendMut, VhostUserDaemon, VringMutex, VringT};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::QueueOwnedT;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// Longest read that is answered in full; a longer one gets these many bytes.
const MOST: u64 = 1 << 16;

struct Rng {
    source: File,
    memory: Memory,
    // Ends the daemon's thread, which would outlive the connection otherwise.
    exit: (EventConsumer, EventNotifier),
}

impl VhostUserBackendMut for Rng {
    type Bitmap = ();
    type Vring = VringMutex;

    fn num_queues(&self) -> usize {
        1
    }

    fn max_queue_size(&self) -> usize {
        1024
    }

    fn features(&self) -> u64 {
        1 << VIRTIO_F_VERSION_1 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK
    }

    fn set_event_idx(&mut self, _enabled: bool) {}

    fn update_memory(&mut self, memory: Memory) -> io::Result<()> {
        self.memory = memory;
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
        let Some(vring) = vrings.get(usize::from(queue)) else {
            return Ok(());
        };
        let memory = self.memory.memory();
        let chains: Vec<_> = {
            let mut state = vring.get_mut();
            let chains = state.get_queue_mut().iter(memory.clone());
            chains.map_err(io::Error::other)?.collect()
        };
        for chain in chains {
            let head = chain.head_index();
            let mut writer = chain.writer(&memory).map_err(io::Error::other)?;
            let mut bytes = Vec::new();
            let wanted = (writer.available_bytes() as u64).min(MOST);
            (&self.source).take(wanted).read_to_end(&mut bytes)?;
            writer.write_all(&bytes)?;
            vring
                .add_used(head, bytes.len() as u32)
                .map_err(io::Error::other)?;
        }
        vring.signal_used_queue()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("usage: vhost-user-rng SOCKET")?;
    let mut listener = Listener::new(path, true)?;
    loop {
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let exit = new_event_consumer_and_notifier(EventFlag::NONBLOCK)?;
        let rng = Rng {
            source: File::open("/dev/urandom")?,
            memory: memory.clone(),
            exit,
        };
        let mut daemon = VhostUserDaemon::new("rng".into(), Arc::new(Mutex::new(rng)), memory)
            .map_err(|error| error.to_string())?;
        daemon
            .start(&mut listener)
            .map_err(|error| error.to_string())?;
        if let Err(error) = daemon.wait() {
            eprintln!("vhost-user-rng: {error}");
        }
    }
}
