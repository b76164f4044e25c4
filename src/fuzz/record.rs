// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Takes down what a real driver does, as moves of `driver.rs`: `fuzz/record` builds the program with
//! this and makes the corpora of it.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestMemoryMmap};

use crate::events::Notice;

struct Session {
    file: File,
    before: Instant,
}

static SESSION: OnceLock<Option<Mutex<Session>>> = OnceLock::new();

/// Writes down, if the environment says where to, that time has passed, and what was done then.
fn write(moves: &[u8]) {
    let session = SESSION.get_or_init(|| {
        let path = std::env::var_os("SESSION_RECORD")?;
        let file = File::create(path).ok()?;
        let before = Instant::now();
        Some(Mutex::new(Session { file, before }))
    });
    let Some(Ok(mut session)) = session.as_ref().map(Mutex::lock) else {
        return;
    };
    let passed = (session.before.elapsed().as_micros() / 10).min(u16::MAX.into()) as u16;
    session.before = Instant::now();
    let [low, high] = passed.to_le_bytes();
    let _ = session.file.write_all(&[&[0, low, high], moves].concat());
}

/// A message of the driver.
pub fn message(queue: usize, chain: &DescriptorChain<&GuestMemoryMmap>) {
    let parts: Vec<_> = chain.clone().take(15).collect();
    let mut moves = vec![queue as u8 + 1, parts.len() as u8];
    for part in parts {
        moves.push(part.is_write_only().into());
        moves.extend((part.len().min(u16::MAX.into()) as u16).to_le_bytes());
        if !part.is_write_only() {
            let mut bytes = vec![0; part.len().min(255) as usize];
            let _ = chain.memory().read_slice(&mut bytes, part.addr());
            moves.push(bytes.len() as u8);
            moves.extend(bytes);
        }
    }
    write(&moves);
}

/// What the driver is to be told.
pub fn notice(notice: &Notice) {
    let moves = match *notice {
        Notice::Jack { plugged, .. } => vec![7, plugged.into()],
        Notice::Xrun { stream } => vec![13, stream as u8],
        Notice::Control { id, mask } => {
            let [low, high] = mask.to_le_bytes();
            vec![14, id as u8, low, high]
        }
    };
    write(&moves);
}
