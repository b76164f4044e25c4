// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A kernel device without a kernel: queues in a memfd, requests from the test, and the driver
//! above, which puts text into a queue and looks for what comes back.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use vmm_sys_util::eventfd::EventFd;

use crate::driver::{Device, Driver, DriverError, Queue, Request, RequestKind, State};

const MEMORY_SIZE: u64 = 1 << 18;
const QUEUE_SIZE: u16 = 8;
/// Room of one queue: a page each for descriptors, available ring, used ring and buffers.
const QUEUE_ROOM: u64 = 4 * 4096;
/// Room of one buffer; the second half is for the answer.
const BUFFER_ROOM: u64 = 256;

#[derive(Debug, Default)]
struct Shared {
    requests: VecDeque<Request>,
    answers: BTreeMap<u64, Result<(), Errno>>,
    given_up: Option<u64>,
    eventfds: BTreeMap<u32, (EventFd, EventFd)>,
    config: Vec<(u32, Vec<u8>, bool)>,
    running: bool,
    destroyed: bool,
    gone: bool,
    looked: u64,
}

/// One device; clones are the same device.
#[derive(Clone, Debug)]
pub struct FakeDriver {
    shared: Arc<Mutex<Shared>>,
    memory: Arc<File>,
    unused: Option<u32>,
    queues: u32,
    files: Arc<(UnixStream, UnixStream)>,
}

impl FakeDriver {
    pub fn new(queues: u32) -> Self {
        let memory = File::from(memfd_create(c"fake-driver", MFdFlags::MFD_CLOEXEC).unwrap());
        memory.set_len(MEMORY_SIZE).unwrap();
        let files = UnixStream::pair().unwrap();
        files.0.set_nonblocking(true).unwrap();
        Self {
            shared: Arc::new(Mutex::new(Shared {
                running: true,
                ..Shared::default()
            })),
            memory: Arc::new(memory),
            unused: None,
            queues,
            files: Arc::new(files),
        }
    }

    /// The driver above does not use this queue.
    pub fn without_queue(mut self, index: u32) -> Self {
        self.unused = Some(index);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    pub fn request(&self, id: u64, kind: RequestKind) {
        self.request_silently(id, kind);
        (&self.files.1).write_all(&[1]).unwrap();
    }

    /// A request that nobody is woken for.
    pub fn request_silently(&self, id: u64, kind: RequestKind) {
        self.lock().requests.push_back(Request { id, kind });
    }

    /// How often a request has been looked for.
    pub fn times_looked(&self) -> u64 {
        self.lock().looked
    }

    /// The kernel does not wait for the answer to this request.
    pub fn give_up(&self, id: u64) {
        self.lock().given_up = Some(id);
    }

    pub fn answer_to(&self, id: u64) -> Option<Result<(), Errno>> {
        self.lock().answers.get(&id).copied()
    }

    pub fn wait_for_answer(&self, id: u64) -> Result<(), Errno> {
        wait_for("an answer", || self.answer_to(id))
    }

    /// The last SET_CONFIG: offset, bytes, whether the driver was told.
    pub fn last_config(&self) -> Option<(u32, Vec<u8>, bool)> {
        self.lock().config.last().cloned()
    }

    /// The driver above has reset the device.
    pub fn reset(&self) {
        self.lock().running = false;
    }

    /// DESTROY was called: what EPOLLHUP is for the control file.
    pub fn destroy(&self) {
        self.lock().destroyed = true;
        self.files.1.shutdown(std::net::Shutdown::Both).unwrap();
    }

    /// The last user has closed the device.
    pub fn go(&self) {
        self.lock().gone = true;
    }

    /// Puts `text` into a queue and kicks.
    pub fn send(&self, queue: u32, text: &str) {
        self.put(queue, text);
        self.lock().eventfds[&queue].0.write(1).unwrap();
    }

    /// Puts `text` into a queue.
    pub fn put(&self, queue: u32, text: &str) {
        let at = address(queue);
        let index = self.u16_at(at.driver_addr + 2);
        let head = index % (QUEUE_SIZE / 2) * 2;
        let buffer = at.device_addr + 4096 + u64::from(head) * BUFFER_ROOM;
        self.memory.write_all_at(text.as_bytes(), buffer).unwrap();
        let length = text.len() as u32;
        self.descriptor(at.desc_addr, head, buffer, length, 1, head + 1);
        self.descriptor(
            at.desc_addr,
            head + 1,
            buffer + BUFFER_ROOM / 2,
            length,
            2,
            0,
        );
        let slot = at.driver_addr + 4 + u64::from(index % QUEUE_SIZE) * 2;
        self.memory.write_all_at(&head.to_le_bytes(), slot).unwrap();
        self.memory
            .write_all_at(&(index + 1).to_le_bytes(), at.driver_addr + 2)
            .unwrap();
    }

    fn descriptor(&self, table: u64, index: u16, addr: u64, length: u32, flags: u16, next: u16) {
        let bytes = [
            &addr.to_le_bytes()[..],
            &length.to_le_bytes(),
            &flags.to_le_bytes(),
            &next.to_le_bytes(),
        ]
        .concat();
        self.memory
            .write_all_at(&bytes, table + u64::from(index) * 16)
            .unwrap();
    }

    /// Waits for a call and for `count` used buffers; returns the text of the last.
    pub fn receive(&self, queue: u32, count: u16) -> String {
        let call = self.lock().eventfds[&queue].1.try_clone().unwrap();
        wait_for("a call", || call.read().ok());
        let at = address(queue);
        wait_for("a used buffer", || {
            (self.used_index(queue) == count).then_some(())
        });
        let slot = at.device_addr + 4 + u64::from((count - 1) % QUEUE_SIZE) * 8;
        let (head, length) = (self.u16_at(slot), self.u16_at(slot + 4));
        let mut text = vec![0; usize::from(length)];
        let buffer = at.device_addr + 4096 + u64::from(head) * BUFFER_ROOM;
        self.memory
            .read_exact_at(&mut text, buffer + BUFFER_ROOM / 2)
            .unwrap();
        String::from_utf8(text).unwrap()
    }

    pub fn used_index(&self, queue: u32) -> u16 {
        self.u16_at(address(queue).device_addr + 2)
    }

    pub fn set_used_index(&self, queue: u32, index: u16) {
        self.memory
            .write_all_at(&index.to_le_bytes(), address(queue).device_addr + 2)
            .unwrap();
    }

    /// The queues that have eventfds.
    pub fn queues_with_eventfds(&self) -> Vec<u32> {
        self.lock().eventfds.keys().copied().collect()
    }

    fn u16_at(&self, offset: u64) -> u16 {
        let mut bytes = [0; 2];
        self.memory.read_exact_at(&mut bytes, offset).unwrap();
        u16::from_le_bytes(bytes)
    }
}

fn address(index: u32) -> Queue {
    let base = 4096 + u64::from(index) * QUEUE_ROOM;
    Queue {
        size: QUEUE_SIZE,
        desc_addr: base,
        driver_addr: base + 4096,
        device_addr: base + 2 * 4096,
    }
}

/// What `look` finds, within a time that only a hang exceeds.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl AsFd for FakeDriver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.files.0.as_fd()
    }
}

impl Driver for FakeDriver {
    fn device(&self) -> Result<Device, DriverError> {
        Ok(Device {
            name: "fake".into(),
            device_id: 4,
            features: 0,
            driver_features: 0,
            memory_size: MEMORY_SIZE,
            zero_copy: false,
            queue_count: self.queues,
            config_size: 0,
            state: State::Starting,
            attached: true,
            driver_bound: true,
            virtio_index: 0,
        })
    }

    fn is_dying(&self) -> Result<bool, DriverError> {
        Ok(!self.lock().gone)
    }

    fn queue(&self, index: u32) -> Result<Option<Queue>, DriverError> {
        if !self.lock().running {
            return Err(DriverError::NotRunning);
        }
        Ok((self.unused != Some(index)).then(|| address(index)))
    }

    fn memory(&self) -> Result<File, DriverError> {
        Ok(self.memory.try_clone().unwrap())
    }

    fn set_eventfds(&self, index: u32, kick: &EventFd, call: &EventFd) -> Result<(), DriverError> {
        let eventfds = (kick.try_clone().unwrap(), call.try_clone().unwrap());
        self.lock().eventfds.insert(index, eventfds);
        Ok(())
    }

    fn next_request(&self) -> Result<Option<Request>, DriverError> {
        let _ = (&self.files.0).read(&mut [0]);
        let mut shared = self.lock();
        shared.looked += 1;
        match shared.requests.pop_front() {
            None if shared.destroyed => Err(DriverError::Gone),
            request => Ok(request),
        }
    }

    fn answer(&self, id: u64, result: Result<(), Errno>) -> Result<bool, DriverError> {
        let mut shared = self.lock();
        assert_eq!(shared.answers.insert(id, result), None, "answered twice");
        Ok(shared.given_up != Some(id))
    }

    fn set_config(&self, offset: u32, data: &[u8], notify: bool) -> Result<(), DriverError> {
        self.lock().config.push((offset, data.to_vec(), notify));
        Ok(())
    }
}
