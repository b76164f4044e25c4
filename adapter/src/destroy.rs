// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `virtio-loopback destroy`.

use std::thread;
use std::time::{Duration, Instant};

use crate::driver::{ControlFile, DeviceName, DriverError};

/// How long a device may take to go before the user is told what it waits for.
const TIME: Duration = Duration::from_secs(5);
/// How often it is looked for.
const PERIOD: Duration = Duration::from_millis(50);

/// Whether a device that was destroyed is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destroyed {
    /// It is.
    Gone,
    /// An application has it open; it goes when that closes it.
    StillOpen,
}

/// Destroys a device and waits for it to go.
///
/// # Errors
/// Of opening the control file, [`DriverError::NoDevice`], [`DriverError::Destroy`],
/// [`DriverError::List`].
pub fn destroy(name: &DeviceName) -> Result<Destroyed, DriverError> {
    let control = ControlFile::open()?;
    control.destroy(name)?;
    let end = Instant::now() + TIME;
    while control.find(name)?.is_some() {
        if Instant::now() >= end {
            return Ok(Destroyed::StillOpen);
        }
        thread::sleep(PERIOD);
    }
    Ok(Destroyed::Gone)
}
