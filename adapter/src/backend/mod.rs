// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The device process's side: a vhost-user frontend.
//!
//! Each method is one exchange of the vhost-user specification; the order of the exchanges is the
//! session's business. No call waits longer than the answer limit.

mod answer_deadline;
mod error;
mod request_channel;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight};
use vhost::vhost_user::{
    Frontend, VhostUserFrontend, VhostUserProtocolFeatures, VhostUserVirtioFeatures,
};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vmm_sys_util::eventfd::EventFd;

use answer_deadline::AnswerDeadline;
use request_channel::RequestChannel;

pub use error::{BackendError, Step};

/// How long a device process may take to answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A virtqueue as vhost-user describes it; addresses are user addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vring {
    /// Which queue.
    pub index: u32,
    /// Entries.
    pub size: u16,
    /// Address of the descriptor table.
    pub desc_address: u64,
    /// Address of the available ring.
    pub driver_address: u64,
    /// Address of the used ring.
    pub device_address: u64,
    /// Index in the available ring to begin at.
    pub base: u16,
}

/// A connected device process whose features have been negotiated.
pub struct Backend {
    // Dropped first: it uses the connection.
    requests: Option<RequestChannel>,
    frontend: Frontend,
    socket: UnixStream,
    deadline: AnswerDeadline,
    features: u64,
    // None: the device process knows no protocol features at all.
    protocol: Option<VhostUserProtocolFeatures>,
    queue_count: Option<u32>,
    /// Set from outside: this program is to end.
    end: Arc<AtomicBool>,
}

impl Backend {
    /// Takes a connected socket: SET_OWNER, features, protocol features, number of queues and
    /// request channel. `queues` is the number of queues to use where the device process does not
    /// tell its own; `limit` is how long it may take to answer. Once `end` is set nothing new is begun.
    ///
    /// # Errors
    /// Any [`BackendError`].
    pub fn negotiate(
        socket: UnixStream,
        queues: u32,
        limit: Duration,
        end: Arc<AtomicBool>,
    ) -> Result<Self, BackendError> {
        let deadline = AnswerDeadline::new(socket.try_clone()?, limit)?;
        let frontend = Frontend::from_stream(socket.try_clone()?, u64::from(queues));
        let mut backend = Self {
            requests: None,
            frontend,
            socket,
            deadline,
            features: 0,
            protocol: None,
            queue_count: None,
            end,
        };
        backend.step(Step::SetOwner, |frontend| frontend.set_owner())?;
        let features = backend.step(Step::GetFeatures, |frontend| frontend.get_features())?;
        let reserved = VhostUserVirtioFeatures::all().bits();
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() != 0 {
            backend.negotiate_protocol()?;
        }
        backend.features = features & !reserved;
        Ok(backend)
    }

    fn negotiate_protocol(&mut self) -> Result<(), BackendError> {
        let ours = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::BACKEND_REQ
            | VhostUserProtocolFeatures::INFLIGHT_SHMFD;
        let theirs = self.step(Step::GetProtocolFeatures, |f| f.get_protocol_features())?;
        let common = ours & theirs;
        self.step(Step::SetProtocolFeatures, |f| {
            f.set_protocol_features(common)
        })?;
        self.protocol = Some(common);
        let acknowledge = common.contains(VhostUserProtocolFeatures::REPLY_ACK);
        if acknowledge {
            self.frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        }
        if common.contains(VhostUserProtocolFeatures::MQ) {
            let count = self.step(Step::GetQueueNum, |f| f.get_queue_num())?;
            self.queue_count = Some(u32::try_from(count).unwrap_or(u32::MAX));
        }
        if common.contains(VhostUserProtocolFeatures::BACKEND_REQ) {
            self.requests = Some(RequestChannel::open(acknowledge, |fd| {
                self.step(Step::SetBackendReqFd, |f| f.set_backend_request_fd(&fd))
            })?);
        }
        Ok(())
    }

    /// Virtio features that the device process offers.
    pub fn features(&self) -> u64 {
        self.features
    }

    /// How many queues the device process can serve, if it tells (protocol feature MQ).
    pub fn queue_count(&self) -> Option<u32> {
        self.queue_count
    }

    /// Whether the device process has a config space (protocol feature CONFIG).
    pub fn has_config(&self) -> bool {
        self.protocol
            .is_some_and(|p| p.contains(VhostUserProtocolFeatures::CONFIG))
    }

    /// GET_CONFIG: the first `size` bytes of the config space; `size` is not 0.
    ///
    /// # Errors
    /// [`BackendError::NoAnswer`] also where the device process has fewer bytes: its empty reply
    /// is one that the `vhost` crate waits on for the rest.
    pub fn config(&mut self, size: u32) -> Result<Vec<u8>, BackendError> {
        let flags = VhostUserConfigFlags::empty();
        let room = vec![0; size as usize];
        self.step(Step::GetConfig { size }, |f| {
            f.get_config(0, size, flags, &room)
        })
        .map(|(_, bytes)| bytes)
    }

    /// SET_CONFIG: writes of the driver.
    ///
    /// # Errors
    /// [`BackendError::Refused`] where the device process does not accept the write.
    pub fn set_config(&mut self, offset: u32, data: &[u8]) -> Result<(), BackendError> {
        let flags = VhostUserConfigFlags::WRITABLE;
        let step = Step::SetConfig {
            offset,
            size: data.len(),
        };
        self.step(step, |f| f.set_config(offset, flags, data))
    }

    /// Whether the device process takes a queue of `size` entries, tried by SET_VRING_NUM, which
    /// it may refuse. `None`: it cannot say (no protocol feature REPLY_ACK).
    ///
    /// # Errors
    /// Any [`BackendError`] but [`BackendError::Refused`].
    pub fn takes_queue_size(
        &mut self,
        queue: u32,
        size: u16,
    ) -> Result<Option<bool>, BackendError> {
        if !self.acknowledges() {
            return Ok(None);
        }
        let step = Step::SetVringNum { queue, size };
        match self.step(step, |f| f.set_vring_num(queue as usize, size)) {
            Ok(()) => Ok(Some(true)),
            Err(BackendError::Refused { .. }) => Ok(Some(false)),
            Err(error) => Err(error),
        }
    }

    /// SET_FEATURES: what the driver accepted, without transport bits.
    ///
    /// # Errors
    /// Any [`BackendError`].
    pub fn set_features(&mut self, features: u64) -> Result<(), BackendError> {
        let features = match self.protocol {
            None => features,
            Some(_) => features | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits(),
        };
        self.step(Step::SetFeatures, |f| f.set_features(features))
    }

    /// SET_MEM_TABLE: one region, whose guest addresses are offsets in the file.
    ///
    /// # Errors
    /// Any [`BackendError`].
    pub fn set_memory(
        &mut self,
        fd: RawFd,
        size: u64,
        user_address: u64,
    ) -> Result<(), BackendError> {
        let region = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: size,
            userspace_addr: user_address,
            mmap_offset: 0,
            mmap_handle: fd,
        };
        self.step(Step::SetMemTable, |f| f.set_mem_table(&[region]))
            .map(|_| ())
    }

    /// GET_INFLIGHT_FD: an area for what is in flight in `queues` queues of up to `size` entries, as
    /// the device process makes it. `None`: it does not keep track of that.
    ///
    /// # Errors
    /// Any [`BackendError`]; [`BackendError::Setup`] where no file can be received now,
    /// [`BackendError::NotInMemory`] where a file system of somebody's own could keep
    /// waiting whoever reads the area.
    pub fn make_inflight(
        &mut self,
        queues: u16,
        size: u16,
    ) -> Result<Option<(VhostUserInflight, File)>, BackendError> {
        let tracks =
            |p: VhostUserProtocolFeatures| p.contains(VhostUserProtocolFeatures::INFLIGHT_SHMFD);
        if !self.protocol.is_some_and(tracks) {
            return Ok(None);
        }
        let asked = VhostUserInflight::new(0, 0, queues, size);
        let step = Step::GetInflightFd { size };
        // A reply whose file there is no descriptor for is lost, and would be waited for in vain.
        drop(self.socket.try_clone()?);
        let (made, file) = self.step(step, |f| f.get_inflight_fd(&asked))?;
        if !is_in_memory(&file) {
            // Whose file it is may keep whoever closes it waiting, too.
            let _ = thread::Builder::new().spawn(move || drop(file));
            return Err(BackendError::NotInMemory { step });
        }
        Ok(Some((made, file)))
    }

    /// SET_INFLIGHT_FD: the device process keeps track there, and goes on with what it finds.
    ///
    /// # Errors
    /// Any [`BackendError`].
    pub fn set_inflight(
        &mut self,
        area: &VhostUserInflight,
        file: RawFd,
    ) -> Result<(), BackendError> {
        self.step(Step::SetInflightFd, |f| f.set_inflight_fd(area, file))
    }

    /// SET_VRING_NUM, ADDR, BASE, CALL, KICK, ENABLE: the device process serves the queue.
    ///
    /// CALL comes before KICK: the kick starts the queue, and a device that has no call eventfd
    /// at its first used buffer would not tell the driver.
    ///
    /// # Errors
    /// Any [`BackendError`].
    pub fn start_vring(
        &mut self,
        vring: &Vring,
        kick: &EventFd,
        call: &EventFd,
    ) -> Result<(), BackendError> {
        let (queue, index) = (vring.index, vring.index as usize);
        let addresses = VringConfigData {
            queue_max_size: vring.size,
            queue_size: vring.size,
            flags: 0,
            desc_table_addr: vring.desc_address,
            used_ring_addr: vring.device_address,
            avail_ring_addr: vring.driver_address,
            log_addr: None,
        };
        let size = vring.size;
        self.step(Step::SetVringNum { queue, size }, |f| {
            f.set_vring_num(index, size)
        })?;
        self.step(Step::SetVringAddr { queue }, |f| {
            f.set_vring_addr(index, &addresses)
        })?;
        self.step(Step::SetVringBase { queue }, |f| {
            f.set_vring_base(index, vring.base)
        })?;
        self.step(Step::SetVringCall { queue }, |f| {
            f.set_vring_call(index, call)
        })?;
        self.step(Step::SetVringKick { queue }, |f| {
            f.set_vring_kick(index, kick)
        })?;
        if self.protocol.is_none() {
            return Ok(()); // Queues are enabled from the start.
        }
        self.step(Step::SetVringEnable { queue }, |f| {
            f.set_vring_enable(index, true)
        })?;
        if !self.acknowledges() {
            // It answers in order. One of rust-vmm forgets a kick that it gets before it has enabled
            // the queue, and would wait for the next with the driver's buffer in its hands.
            self.step(Step::GetFeatures, |f| f.get_features())?;
        }
        Ok(())
    }

    /// GET_VRING_BASE: the device process no longer touches the queue.
    ///
    /// # Errors
    /// Any [`BackendError`].
    pub fn stop_vring(&mut self, queue: u32) -> Result<(), BackendError> {
        self.step(Step::GetVringBase { queue }, |f| {
            f.get_vring_base(queue as usize)
        })
        .map(|_| ())
    }

    /// The request channel's file to poll, if there is a channel.
    pub fn requests(&self) -> Option<BorrowedFd<'_>> {
        self.requests.as_ref().map(AsFd::as_fd)
    }

    /// Whether the device process has reported a change of its config space since the last call.
    pub fn take_config_change(&self) -> bool {
        self.requests
            .as_ref()
            .is_some_and(RequestChannel::take_config_change)
    }

    /// Whether the device process answers each message (protocol feature REPLY_ACK).
    fn acknowledges(&self) -> bool {
        let common = self.protocol.unwrap_or(VhostUserProtocolFeatures::empty());
        common.contains(VhostUserProtocolFeatures::REPLY_ACK)
    }

    fn step<T>(
        &mut self,
        step: Step,
        call: impl FnOnce(&mut Frontend) -> vhost::Result<T>,
    ) -> Result<T, BackendError> {
        // A driver's end is still carried out; many slow steps of a start are not waited for.
        if self.end.load(Ordering::SeqCst) && !step.may_be_at_the_end() {
            return Err(BackendError::Interrupted { step });
        }
        let frontend = &mut self.frontend;
        let (result, expired) = self.deadline.limited(|| call(frontend));
        if expired && result.is_err() {
            return Err(BackendError::NoAnswer {
                step,
                limit: self.deadline.limit(),
            });
        }
        result.map_err(|error| BackendError::from_step(step, error))
    }
}

/// Whether a file lies in memory: a memfd, or on tmpfs or hugetlbfs. Others have no seals, which the kernel
/// knows without asking the file's own system, as it would have to for anything else.
fn is_in_memory(file: &File) -> bool {
    fcntl(file, FcntlArg::F_GET_SEALS).is_ok()
}

/// The connection. Readable only when the device process has closed it: vhost-user backends say
/// nothing on it unasked.
impl AsFd for Backend {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
