// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The end of a kernel device, or of its time with this run.

use std::time::Instant;

use super::{BackOff, Run, RunError};
use crate::destroy::{DESTROY_TIME, Destroyed, destroy, wait_until_gone};
use crate::driver::{ControlFile, DeviceName, DriverError};
use crate::event_loop::Ending;

/// Asks for a device to be destroyed.
pub(super) fn ask_to_go(name: &DeviceName) -> Result<(), DriverError> {
    match ControlFile::open()?.destroy(name) {
        // Somebody else was faster.
        Err(DriverError::NoDevice(_)) => Ok(()),
        asked => asked,
    }
}

impl Run<'_> {
    /// Waits until a device that is being destroyed is gone, or a signal is to end this run.
    pub(super) fn wait_until_gone(&self) -> Result<(), RunError> {
        let control = ControlFile::open()?;
        let mut back_off = BackOff::new();
        while control.is_one_dying(&self.options.name)? && !self.signals.end_requested() {
            self.signals
                .wait(back_off.next())
                .map_err(RunError::Signals)?;
        }
        Ok(())
    }

    pub(super) fn destroyed(&mut self) -> Ending {
        self.news.tell();
        log::info!("the device {} has been destroyed", self.options.name);
        self.has_device = false;
        self.served = false;
        self.inflight.forget();
        Ending::Destroyed
    }

    /// The end: the device stays, or is destroyed if it is ephemeral.
    pub(super) fn leave_device(&mut self) -> Result<(), RunError> {
        let name = &self.options.name;
        if !self.has_device {
            return Ok(());
        }
        if !self.options.ephemeral {
            log::info!("the device {name} stays; remove it with: virtio-loopback destroy {name}");
            return Ok(());
        }
        let control = ControlFile::open()?;
        let left = match self.gone_due {
            // What has been waited for once is not waited for again: a service manager kills who takes long.
            Some(due) => wait_until_gone(&control, name, due),
            None if control.find(name)?.is_some_and(|device| device.attached) => {
                log::info!("the device {name} stays: another adapter is attached to it");
                return Ok(());
            }
            None => destroy(name, Instant::now() + DESTROY_TIME),
        };
        match left {
            Ok(Destroyed::Gone) | Err(DriverError::NoDevice(_)) => {
                log::info!("the device {name} has been destroyed");
                self.inflight.forget();
            }
            Ok(Destroyed::StillOpen) => {
                log::warn!("an application still has {name} open; it goes when that closes it");
                self.inflight.forget();
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
