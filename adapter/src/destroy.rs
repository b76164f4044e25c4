// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `virtio-loopback destroy`.

use std::thread;
use std::time::{Duration, Instant};

use crate::driver::{ControlFile, DeviceName, DriverError};
use crate::inflight::Inflight;

/// How long a device may take to go before the user is told what it waits for.
pub const DESTROY_TIME: Duration = Duration::from_secs(5);
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

/// Destroys a device and waits for it to go, until `due`.
///
/// # Errors
/// Of opening the control file, [`DriverError::NoDevice`], [`DriverError::Destroy`],
/// [`DriverError::List`].
pub fn destroy(name: &DeviceName, due: Instant) -> Result<Destroyed, DriverError> {
    let control = ControlFile::open()?;
    control.destroy(name)?;
    wait_until_gone(&control, name, due)
}

/// Waits for a device whose destruction has been asked for to go, until `due`. Then nothing of it is in
/// flight.
///
/// # Errors
/// [`DriverError::List`].
pub fn wait_until_gone(
    control: &ControlFile,
    name: &DeviceName,
    due: Instant,
) -> Result<Destroyed, DriverError> {
    let gone = wait_while(due, || control.is_one_dying(name))?;
    if gone == Destroyed::Gone && control.find(name)?.is_none() {
        Inflight::of(name).remove();
    }
    Ok(gone)
}

fn wait_while(
    due: Instant,
    mut dying: impl FnMut() -> Result<bool, DriverError>,
) -> Result<Destroyed, DriverError> {
    while dying()? {
        if Instant::now() >= due {
            return Ok(Destroyed::StillOpen);
        }
        thread::sleep(PERIOD);
    }
    Ok(Destroyed::Gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_waited_for_until_its_time_is_up() {
        let (mut looks, mut later) = (0, 0);
        let gone = wait_while(Instant::now() + DESTROY_TIME, || {
            looks += 1;
            Ok(looks < 3)
        });
        assert_eq!((gone.unwrap(), looks), (Destroyed::Gone, 3));
        let open = wait_while(Instant::now(), || {
            later += 1;
            Ok(true)
        });
        assert_eq!((open.unwrap(), later), (Destroyed::StillOpen, 1));
    }
}
