// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Taking a kernel device: a new one, or the one of that name that nobody is attached to.

use super::{RunError, RunOptions};
use crate::device_type::DeviceType;
use crate::driver::{ControlFile, Device, DeviceName, Driver, DriverError, NewDevice, State};
use crate::session::Offer;

/// Creates the device, or attaches to the one of that name.
pub(super) fn take_device(
    options: &RunOptions,
    control: &ControlFile,
    offer: &Offer,
) -> Result<(), RunError> {
    let RunOptions { name, device, .. } = options;
    let new = NewDevice {
        name,
        device_id: device.id,
        features: offer.features,
        zero_copy: device.zero_copy,
        config: &offer.config,
        queue_sizes: &offer.queue_sizes,
    };
    let existing = control.find(name)?;
    if existing.is_none() {
        match control.create(&new) {
            // Created by somebody else just now.
            Err(DriverError::NameExists(_)) => {}
            created => return created.map_err(RunError::from),
        }
    }
    let existing = existing.map_or_else(|| control.find(name), |device| Ok(Some(device)))?;
    let existing = existing.ok_or_else(|| DriverError::NoDevice(name.to_string()))?;
    if let Some(difference) = difference(&existing, &new) {
        return Err(different(name, difference));
    }
    if existing.state == State::Dying {
        return Err(DriverError::Dying(name.to_string()).into());
    }
    control.attach(name)?;
    if !offer.config.is_empty() {
        // Another device process may have another config space.
        control.set_config(0, &offer.config, true)?;
    }
    Ok(())
}

pub(super) fn different(name: &DeviceName, difference: String) -> RunError {
    RunError::Different {
        name: name.to_string(),
        difference,
    }
}

/// What keeps an existing device from being served as `new`.
fn difference(existing: &Device, new: &NewDevice<'_>) -> Option<String> {
    let (queues, config) = (new.queue_sizes.len(), new.config.len());
    if existing.device_id != new.device_id {
        Some(format!(
            "it is a virtio device {}",
            DeviceType::of_id(existing.device_id)
        ))
    } else if existing.queue_count as usize != queues {
        Some(format!(
            "it has {} queues, not {queues}",
            existing.queue_count
        ))
    } else if existing.config_size as usize != config {
        Some(format!(
            "its config space has {} bytes, not {config}",
            existing.config_size
        ))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device {
            name: "music".into(),
            device_id: 25,
            features: 0,
            driver_features: 0,
            memory_size: 4096,
            zero_copy: true,
            queue_count: 4,
            config_size: 12,
            state: State::Quiesced,
            attached: false,
            driver_bound: true,
            virtio_index: 0,
        }
    }

    #[test]
    fn only_a_device_of_the_same_shape_is_taken_over() {
        let name = "music".parse().unwrap();
        let new = NewDevice {
            name: &name,
            device_id: 25,
            features: 0,
            zero_copy: true,
            config: &[0; 12],
            queue_sizes: &[256; 4],
        };
        assert_eq!(difference(&device(), &new), None);
        let says = |change: fn(&mut Device), text: &str| {
            let mut device = device();
            change(&mut device);
            let difference = difference(&device, &new).unwrap();
            assert_eq!(difference, text);
        };
        says(
            |device| device.device_id = 4,
            "it is a virtio device 4 (rng)",
        );
        says(|device| device.queue_count = 2, "it has 2 queues, not 4");
        says(
            |device| device.config_size = 16,
            "its config space has 16 bytes, not 12",
        );
    }
}
