// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! One attached kernel device, served by one device process: who is told what, in which order.

mod error;
mod offer;
#[cfg(test)]
pub(crate) mod tests;

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use vhost::vhost_user::message::VhostUserInflight;
use virtio_bindings::virtio_config::VIRTIO_F_ACCESS_PLATFORM;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::backend::{Backend, BackendError, Vring};
use crate::driver::{Driver, DriverError, Queue, Request, RequestKind};
use crate::inflight::{Area, Inflight};
use crate::memory::DeviceMemory;

pub use error::SessionError;
pub use offer::{Offer, Overrides};

/// What a request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// The queues are served.
    Started {
        /// They had been in use before.
        resumed: bool,
    },
    /// The kernel has given a start up meanwhile, or the driver.
    StartedLate {
        /// The queues are served all the same.
        serving: bool,
    },
    /// The queues are not served any more.
    Stopped,
    /// The config space was written to, or that was refused.
    ConfigWritten,
}

/// The queues that the device process serves now.
struct Serving {
    queues: Vec<u32>,
    // vhost-user messages name addresses in this mapping for as long as the queues are served.
    memory: DeviceMemory,
}

/// A kernel device and the device process that serves it.
pub struct Session<D> {
    driver: D,
    backend: Backend,
    inflight: Inflight,
    config_size: u32,
    config_writes: bool,
    serving: Option<Serving>,
}

impl<D: Driver> Session<D> {
    /// Brings an attached kernel device and a negotiated device process together.
    pub fn new(driver: D, backend: Backend, offer: &Offer, inflight: Inflight) -> Self {
        Self {
            driver,
            backend,
            inflight,
            config_size: offer.config.len() as u32,
            config_writes: offer.config_writes,
            serving: None,
        }
    }

    /// The end of the session: what is in flight is for the next one.
    pub fn into_inflight(self) -> Inflight {
        self.inflight
    }

    /// The kernel's side.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// The device process's side.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Whether the device process serves the queues.
    pub fn is_serving(&self) -> bool {
        self.serving.is_some()
    }

    /// Takes the next request of the kernel, carries it out and answers it. `None`: there is none.
    ///
    /// # Errors
    /// Any [`SessionError`]; the request has been answered then, too, with an error where it can
    /// carry one.
    pub fn handle_request(&mut self) -> Result<Option<Handled>, SessionError> {
        let Some(Request { id, kind }) = self.driver.next_request()? else {
            return Ok(None);
        };
        let is_start = matches!(kind, RequestKind::Start { .. });
        let (result, status) = match kind {
            RequestKind::Start { features, resume } => {
                let result = self.start_or_let_go(features, resume);
                let status = match &result {
                    Ok(Handled::Started { .. }) => Ok(()),
                    Ok(_) | Err(_) => Err(Errno::EIO),
                };
                (result, status)
            }
            // Answered as done whatever the device process said: the kernel frees the queues, and
            // a device process that does not let go of them meets the scratch page.
            RequestKind::Stop => (self.stop().map(|()| Handled::Stopped), Ok(())),
            RequestKind::ConfigWrite { offset, data } => self.write_config(offset, &data),
        };
        let in_time = self.driver.answer(id, status)?;
        let handled = result?;
        let serving = self.is_serving();
        Ok(Some(match is_start && !in_time {
            true => Handled::StartedLate { serving },
            false => handled,
        }))
    }

    /// The device process has changed its config space: the kernel's copy follows.
    ///
    /// # Errors
    /// Of GET_CONFIG and of the kernel.
    pub fn refresh_config(&mut self) -> Result<(), SessionError> {
        self.copy_config(true)
    }

    /// A driver that resets the device while it is being started is no error: what has been
    /// started is stopped again.
    fn start_or_let_go(&mut self, features: u64, resume: bool) -> Result<Handled, SessionError> {
        match self.start(features, resume) {
            Ok(()) => Ok(Handled::Started { resumed: resume }),
            Err(SessionError::Driver(DriverError::NotRunning)) => {
                self.stop()?;
                Ok(Handled::Stopped)
            }
            Err(error) => Err(error),
        }
    }

    /// DRIVER_OK: features, memory, then queue by queue (vhost-user specification, "Starting and
    /// stopping rings").
    fn start(&mut self, driver_features: u64, resume: bool) -> Result<(), SessionError> {
        self.inflight.begin(resume).map_err(BackendError::Setup)?;
        // The device process sees offsets in the memory file; there is no IOTLB to ask.
        let features = driver_features & !(1 << VIRTIO_F_ACCESS_PLATFORM);
        let missing = features & !self.backend.features();
        if missing != 0 {
            return Err(SessionError::FeaturesLost { missing });
        }
        // The kernel may have given up a STOP that was never answered.
        self.stop()?;
        self.backend.set_features(features)?;

        let device = self.driver.device()?;
        let memory = DeviceMemory::map(self.driver.memory()?, device.memory_size)?;
        self.backend
            .set_memory(memory.fd(), memory.size(), memory.user_address())?;

        let mut queues = Vec::new();
        for index in 0..device.queue_count {
            queues.extend(self.driver.queue(index)?.map(|queue| (index, queue)));
        }
        let longest = queues.iter().map(|(_, queue)| queue.size).max();
        self.share_inflight(device.queue_count, longest.unwrap_or(0))?;
        let serving = self.serving.insert(Serving {
            queues: Vec::new(),
            memory,
        });
        for (index, queue) in queues {
            serving.queues.push(index);
            start_queue(
                &self.driver,
                &mut self.backend,
                &serving.memory,
                index,
                &queue,
                resume,
            )?;
        }
        Ok(())
    }

    /// Gives the device process the place where it keeps track of what is in flight, if it does.
    fn share_inflight(&mut self, queues: u32, size: u16) -> Result<(), SessionError> {
        let queues = u16::try_from(queues).unwrap_or(u16::MAX);
        if size == 0 {
            return Ok(());
        }
        let Some((made, file)) = self.backend.make_inflight(queues, size)? else {
            return Ok(());
        };
        let (offset, size) = (made.mmap_offset, made.mmap_size);
        let area = self.inflight.choose(Area { file, offset, size });
        let message = VhostUserInflight {
            mmap_offset: area.offset,
            ..made
        };
        Ok(self.backend.set_inflight(&message, area.file.as_raw_fd())?)
    }

    fn stop(&mut self) -> Result<(), SessionError> {
        let Some(serving) = self.serving.take() else {
            return Ok(());
        };
        for queue in serving.queues {
            self.backend.stop_vring(queue)?;
        }
        Ok(())
    }

    /// What to report and what to answer.
    fn write_config(
        &mut self,
        offset: u32,
        data: &[u8],
    ) -> (Result<Handled, SessionError>, Result<(), Errno>) {
        let done = Ok(Handled::ConfigWritten);
        if !self.config_writes || !self.backend.has_config() {
            log::warn!(
                "refused a write of {} bytes to the config space",
                data.len()
            );
            return (done, Err(Errno::EOPNOTSUPP));
        }
        match self.pass_config_write(offset, data) {
            Ok(()) => (done, Ok(())),
            // A write that the device process does not like is the driver's problem alone.
            Err(SessionError::Backend(error @ BackendError::Refused { .. })) => {
                log::warn!("{error}");
                (done, Err(Errno::EIO))
            }
            Err(error) => (Err(error), Err(Errno::EIO)),
        }
    }

    /// SET_CONFIG, then the whole config space again: what was written can change what is read
    /// elsewhere (virtio-input selects that way).
    fn pass_config_write(&mut self, offset: u32, data: &[u8]) -> Result<(), SessionError> {
        self.backend.set_config(offset, data)?;
        self.copy_config(false)
    }

    fn copy_config(&mut self, notify: bool) -> Result<(), SessionError> {
        if self.config_size == 0 || !self.backend.has_config() {
            return Ok(());
        }
        let config = self.backend.config(self.config_size)?;
        Ok(self.driver.set_config(0, &config, notify)?)
    }
}

/// The device process serves queue `index` from here on; `resume`: from its used index.
fn start_queue(
    driver: &impl Driver,
    backend: &mut Backend,
    memory: &DeviceMemory,
    index: u32,
    queue: &Queue,
    resume: bool,
) -> Result<(), SessionError> {
    let vring = Vring {
        index,
        size: queue.size,
        desc_address: memory.user_address_of(queue.desc_addr)?,
        driver_address: memory.user_address_of(queue.driver_addr)?,
        device_address: memory.user_address_of(queue.device_addr)?,
        base: if resume {
            memory.used_index(queue.device_addr)?
        } else {
            0
        },
    };
    let eventfd = || EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK).map_err(SessionError::Eventfd);
    let (kick, call) = (eventfd()?, eventfd()?);
    backend.start_vring(&vring, &kick, &call)?;
    driver.set_eventfds(index, &kick, &call)?;
    if resume {
        // A device process that died may have taken a kick without serving it, or have used a
        // buffer without a call. One of each too many does no harm.
        kick.write(1).map_err(SessionError::Eventfd)?;
        call.write(1).map_err(SessionError::Eventfd)?;
    }
    // Ours are closed here: the call eventfd must end with the device process, because that is
    // how the kernel learns that nobody serves the queue.
    Ok(())
}
