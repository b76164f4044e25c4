// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Taking a kernel device: a new one, or the one of that name that nobody is attached to.

use super::{RunError, RunOptions};
use crate::device_type::DeviceType;
use crate::driver::{ControlFile, Device, Driver, DriverError, NewDevice, State};
use crate::session::Offer;

/// Attaches to the device of that name, or creates it if it `may`.
pub(super) fn take_device(
    options: &RunOptions,
    control: &ControlFile,
    offer: &Offer,
    may_create: bool,
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
    if existing.is_none() && may_create {
        match control.create(&new) {
            // Created by somebody else just now.
            Err(DriverError::NameExists(_)) => {}
            created => return created.map_err(RunError::from),
        }
    }
    let existing = existing.map_or_else(|| control.find(name), |device| Ok(Some(device)))?;
    let existing = existing.ok_or_else(|| DriverError::NoDevice(name.to_string()))?;
    check(&existing, &new)?;
    control.attach(name)?;
    if !offer.config.is_empty() {
        // Another device process may have another config space.
        control.set_config(0, &offer.config, true)?;
    }
    Ok(())
}

/// Whether an existing device can be taken over.
fn check(existing: &Device, new: &NewDevice<'_>) -> Result<(), RunError> {
    // One that is on its way out need not be like the one that comes.
    if existing.state == State::Dying {
        return Err(DriverError::Dying(existing.name.clone()).into());
    }
    check_type(existing, new.device_id)?;
    check_shape(existing, new)
}

/// Whether an existing device is of this type.
pub(super) fn check_type(existing: &Device, device_id: u32) -> Result<(), RunError> {
    if existing.device_id == device_id {
        return Ok(());
    }
    Err(RunError::OtherType {
        name: existing.name.clone(),
        device: DeviceType::of_id(existing.device_id),
    })
}

/// Whether an existing device has what `new` would have.
fn check_shape(existing: &Device, new: &NewDevice<'_>) -> Result<(), RunError> {
    let (has_queues, has_config) = (existing.queue_count, existing.config_size);
    let (queues, config) = (new.queue_sizes.len(), new.config.len());
    let difference = if has_queues as usize != queues {
        format!("it has {has_queues} queues, not {queues}")
    } else if has_config as usize != config {
        format!("its config space has {has_config} bytes, not {config}")
    } else {
        return Ok(());
    };
    let name = existing.name.clone();
    Err(RunError::OtherShape { name, difference })
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
        check_shape(&device(), &new).unwrap();
        let says = |change: fn(&mut Device), text: &str| {
            let mut device = device();
            change(&mut device);
            let error = check_shape(&device, &new).unwrap_err();
            assert!(error.is_refusal(), "{error:?}");
            assert!(error.to_string().contains(text), "{error}");
        };
        says(|device| device.queue_count = 2, "it has 2 queues, not 4");
        says(
            |device| device.config_size = 16,
            "its config space has 16 bytes, not 12",
        );
    }

    #[test]
    fn of_a_device_that_is_on_its_way_out_nothing_else_is_said() {
        let name = "music".parse().unwrap();
        let new = NewDevice {
            name: &name,
            device_id: 4,
            features: 0,
            zero_copy: false,
            config: &[],
            queue_sizes: &[256],
        };
        assert!(matches!(
            check(&device(), &new),
            Err(RunError::OtherType { .. })
        ));
        let dying = Device {
            state: State::Dying,
            ..device()
        };
        let error = check(&dying, &new).unwrap_err();
        assert!(
            matches!(error, RunError::Driver(DriverError::Dying(_))),
            "{error:?}"
        );
    }

    #[test]
    fn a_device_of_another_type_is_not_taken_over_whoever_serves() {
        check_type(&device(), 25).unwrap();
        let error = check_type(&device(), 4).unwrap_err();
        assert!(!error.is_refusal(), "{error:?}");
        assert!(error.to_string().contains("is a virtio device 25 (sound)"));
    }
}
