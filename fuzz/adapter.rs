// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device process whose answers are the input, before the adapter has asked anything.

use std::fs::File;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use virtio_loopback::backend::{Backend, BackendError, Vring};
use vmm_sys_util::eventfd::EventFd;

/// No answer takes that long: all of them are there.
const LIMIT: Duration = Duration::from_secs(5);
/// What is not read must fit into the socket.
const LONGEST: usize = 4096;

/// The adapter asks all that it ever asks, and believes nothing.
pub fn vhost_user_adapter(input: &[u8]) {
    let Ok((ours, mut theirs)) = UnixStream::pair() else {
        return;
    };
    let input = input.get(..LONGEST).unwrap_or(input);
    if theirs.write_all(input).is_err() || theirs.shutdown(Shutdown::Write).is_err() {
        return;
    }
    if let Ok(mut backend) = Backend::negotiate(ours, 4, LIMIT) {
        // It says when an answer makes no sense, and goes on where that is possible.
        let _ = talk(&mut backend);
    }
}

fn talk(backend: &mut Backend) -> Result<(), BackendError> {
    let features = backend.features();
    if backend.has_config() {
        let config = backend.config(16)?;
        assert!(config.len() <= 16, "more config space than was asked for");
    }
    let _ = backend.takes_queue_size(0, 1024)?;
    backend.set_features(features)?;
    if let Ok(file) = File::open("/dev/zero") {
        backend.set_memory(file.as_raw_fd(), 0x1000, 0)?;
    }
    let [Ok(kick), Ok(call)] = [EventFd::new(0), EventFd::new(0)] else {
        return Ok(());
    };
    for index in 0..backend.queue_count().unwrap_or(4).min(4) {
        let vring = Vring {
            index,
            size: 64,
            desc_address: 0,
            driver_address: 0x400,
            device_address: 0x800,
            base: 0,
        };
        backend.start_vring(&vring, &kick, &call)?;
    }
    let _ = backend.take_config_change();
    for queue in 0..4 {
        backend.stop_vring(queue)?;
    }
    Ok(())
}
