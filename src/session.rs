// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The vhost-user side: gathers what a frontend says about each ring, and hands a ring to the audio
//! thread once it is complete. One session lasts as long as its connection; rings outlive it.

use std::fs::File;
use std::sync::Arc;

use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Backend, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use crate::area::Area;
use crate::device::Device;
use crate::eventfd;
use crate::memory::Memory;
use crate::ring::{MAX_SIZE, Setup};
use crate::wire::QUEUES;

/// Features of the transport that a driver may accept. INDIRECT_DESC is for frontends with short
/// queues, such as QEMU's of 64 entries: there the Linux driver drops each period that finds no room
/// for all of its pages.
const FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

fn protocol_features() -> VhostUserProtocolFeatures {
    VhostUserProtocolFeatures::MQ
        | VhostUserProtocolFeatures::CONFIG
        | VhostUserProtocolFeatures::REPLY_ACK
        | VhostUserProtocolFeatures::BACKEND_REQ
        | VhostUserProtocolFeatures::RESET_DEVICE
        | VhostUserProtocolFeatures::INFLIGHT_SHMFD
}

/// What the card behind the session shows of itself.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Its config space.
    pub config: [u8; 16],
    /// The features of its own that a driver may accept.
    pub features: u64,
    /// Words that it needs in an [`Area`].
    pub words: usize,
}

/// What is known of a ring so far.
#[derive(Default)]
struct RingPlan {
    size: u16,
    addresses: Option<[u64; 3]>,
    base: u16,
    enabled: bool,
    kick: Option<File>,
    call: Option<File>,
    err: Option<File>,
    started: bool,
}

/// One connection.
pub struct Session {
    device: Arc<Device>,
    offer: Offer,
    features: u64,
    memory: Option<Arc<Memory>>,
    rings: [RingPlan; QUEUES],
    /// The channel for requests of the device. It has none, but a frontend would complain of an end.
    requests: Option<Backend>,
}

/// Reports a failure to the log and to the frontend.
fn refuse(error: &dyn std::error::Error) -> Error {
    log::error!("{error}");
    Error::BackendInternalError
}

/// Reports a failure to the log, and ends the connection: the request has an answer of its own, for which
/// the frontend would wait.
fn hang_up(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::ReqHandlerError(std::io::Error::other(error))
}

/// Takes what is to be an eventfd, where the frontend gives one.
fn taken(fd: Option<File>) -> Result<Option<File>> {
    fd.map(eventfd::take)
        .transpose()
        .map_err(|error| refuse(&error))
}

impl Session {
    /// A session in front of `device`.
    pub fn new(device: Arc<Device>, offer: Offer) -> Self {
        Self {
            device,
            offer,
            features: 0,
            memory: None,
            rings: Default::default(),
            requests: None,
        }
    }

    fn ring(&mut self, index: u32) -> Result<&mut RingPlan> {
        self.rings
            .get_mut(index as usize)
            .ok_or(Error::InvalidParam)
    }

    fn event_idx(&self) -> bool {
        self.features & (1 << VIRTIO_RING_F_EVENT_IDX) != 0
    }

    /// Hands a ring over once its kick is known, as the last thing a frontend says.
    fn start_ring(&mut self, index: u32) -> Result<()> {
        let event_idx = self.event_idx();
        let memory = self
            .memory
            .clone()
            .ok_or(Error::InvalidOperation("no memory table"))?;
        let device = Arc::clone(&self.device);
        let plan = self.ring(index)?;
        let place = plan
            .addresses
            .ok_or(Error::InvalidOperation("no ring addresses"))?;
        let [Some(desc), Some(avail), Some(used)] = place.map(|user| memory.guest_address(user))
        else {
            return Err(Error::InvalidParam);
        };
        let setup = Setup {
            size: plan.size,
            desc,
            avail,
            used,
            base: plan.base,
            event_idx,
            enabled: plan.enabled,
            kick: plan.kick.take(),
            call: plan.call.take(),
            err: plan.err.take(),
        };
        plan.started = true;
        device
            .start_ring(index as usize, setup, memory)
            .map_err(|error| refuse(&error))
    }
}

impl VhostUserBackendReqHandlerMut for Session {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.device.reset().map_err(|error| refuse(&error))?;
        // What is said of the rings from here on is said of new ones.
        self.rings = Default::default();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.reset_owner()
    }

    fn get_features(&mut self) -> Result<u64> {
        let transport = FEATURES | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        Ok(self.offer.features | transport)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.get_features()? != 0 {
            return Err(Error::InvalidParam);
        }
        self.features = features;
        self.device
            .accept_features(features & self.offer.features)
            .map_err(|error| refuse(&error))?;
        // Without protocol features there is no SET_VRING_ENABLE: rings are enabled from the start.
        let enabled = features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0;
        for plan in self.rings.iter_mut().filter(|plan| !plan.started) {
            plan.enabled |= enabled;
        }
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        table: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let memory = Arc::new(Memory::new(table, files).map_err(|error| refuse(&error))?);
        self.memory = Some(Arc::clone(&memory));
        if self.rings.iter().any(|plan| plan.started) {
            self.device
                .set_memory(memory)
                .map_err(|error| refuse(&error))?;
        }
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num)
            .ok()
            .filter(|size| size.is_power_of_two());
        let size = size
            .filter(|&size| size <= MAX_SIZE)
            .ok_or(Error::InvalidParam)?;
        self.ring(index)?.size = size;
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        self.ring(index)?.addresses = Some([descriptor, available, used]);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.ring(index)?.base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let device = Arc::clone(&self.device);
        let plan = self.ring(index)?;
        plan.started = false;
        let base = device.stop_ring(index as usize).map_err(hang_up)?;
        plan.base = base.unwrap_or(plan.base);
        Ok(VhostUserVringState::new(index, plan.base.into()))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.ring(index.into())?.kick = taken(fd)?;
        self.start_ring(index.into())
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let device = Arc::clone(&self.device);
        let plan = self.ring(index.into())?;
        let call = taken(fd)?;
        if plan.started {
            return device
                .set_call(index.into(), call)
                .map_err(|error| refuse(&error));
        }
        plan.call = call;
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.ring(index.into())?.err = taken(fd)?;
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(protocol_features())
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        if features & !protocol_features().bits() != 0 {
            return Err(Error::InvalidParam);
        }
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(QUEUES as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let device = Arc::clone(&self.device);
        let plan = self.ring(index)?;
        plan.enabled = enable;
        if plan.started {
            device
                .enable_ring(index as usize, enable)
                .map_err(|error| refuse(&error))?;
        }
        Ok(())
    }

    fn get_config(
        &mut self,
        offset: u32,
        size: u32,
        _flags: VhostUserConfigFlags,
    ) -> Result<Vec<u8>> {
        let start = offset as usize;
        let end = start
            .checked_add(size as usize)
            .ok_or(Error::InvalidParam)?;
        Ok(self
            .offer
            .config
            .get(start..end)
            .ok_or(Error::InvalidParam)?
            .to_vec())
    }

    fn set_config(
        &mut self,
        _offset: u32,
        _data: &[u8],
        _flags: VhostUserConfigFlags,
    ) -> Result<()> {
        Err(Error::InvalidOperation(
            "a sound device's config space is read-only",
        ))
    }

    fn set_backend_req_fd(&mut self, requests: Backend) {
        self.requests = Some(requests);
    }

    fn set_gpu_socket(&mut self, _gpu: GpuBackend) -> Result<()> {
        Err(unsupported())
    }

    fn get_shared_object(&mut self, _uuid: VhostUserSharedMsg) -> Result<File> {
        Err(unsupported())
    }

    fn get_inflight_fd(&mut self, asked: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Area::create(asked.num_queues, asked.queue_size, self.offer.words).map_err(hang_up)
    }

    fn set_inflight_fd(&mut self, inflight: &VhostUserInflight, file: File) -> Result<()> {
        let area = Area::map(inflight, file).map_err(|error| refuse(&error))?;
        self.device.set_area(area).map_err(|error| refuse(&error))
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Err(unsupported())
    }

    fn add_mem_region(
        &mut self,
        _region: &VhostUserSingleMemoryRegion,
        _fd: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        Err(unsupported())
    }

    fn remove_mem_region(&mut self, _region: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(unsupported())
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _fd: File,
    ) -> Result<Option<File>> {
        Err(unsupported())
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(unsupported())
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(unsupported())
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        Err(unsupported())
    }
}

fn unsupported() -> Error {
    Error::InvalidOperation("not offered by a sound device")
}
