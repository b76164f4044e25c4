// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! An open `/dev/virtio-loopback`.

use std::cell::OnceCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use virtio_bindings::virtio_ids;
use vmm_sys_util::eventfd::EventFd;

use super::{Device, DeviceName, Driver, DriverError, Queue, Request, State, ioctl, uapi};

/// Where the module registers its control file.
pub const CONTROL_PATH: &str = "/dev/virtio-loopback";

/// What a new device is made of (`struct virtio_loopback_create`).
#[derive(Clone, Debug)]
pub struct NewDevice<'a> {
    /// Unique among the devices.
    pub name: &'a DeviceName,
    /// Virtio device id.
    pub device_id: u32,
    /// Features of the device; the kernel drops what it cannot carry.
    pub features: u64,
    /// Whether the driver's buffers may be mapped in place.
    pub zero_copy: bool,
    /// Initial config space.
    pub config: &'a [u8],
    /// Largest size of each queue.
    pub queue_sizes: &'a [u32],
}

/// The control file: lists devices, and is attached to at most one.
#[derive(Debug)]
pub struct ControlFile {
    file: File,
    /// Name of the device this file has been attached to.
    attached: OnceCell<DeviceName>,
}

impl ControlFile {
    /// Opens [`CONTROL_PATH`] and checks that the module speaks our ABI.
    ///
    /// # Errors
    /// Those of [`ControlFile::open_at`].
    pub fn open() -> Result<Self, DriverError> {
        Self::open_at(Path::new(CONTROL_PATH))
    }

    /// Opens the control file at `path` and checks that the module speaks our ABI.
    ///
    /// # Errors
    /// [`DriverError::ModuleNotLoaded`], [`DriverError::NoPermission`], [`DriverError::Open`],
    /// [`DriverError::Info`], [`DriverError::AbiVersion`].
    pub fn open_at(path: &Path) -> Result<Self, DriverError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|error| open_error(path, error))?;
        let info = ioctl::get_info(&file).map_err(|source| DriverError::Info {
            path: path.display().to_string(),
            source,
        })?;
        if info.abi_version != uapi::ABI_VERSION {
            return Err(DriverError::AbiVersion {
                module: info.abi_version,
            });
        }
        Ok(Self {
            file,
            attached: OnceCell::new(),
        })
    }

    /// All devices, attached or not, in the order of the kernel.
    ///
    /// # Errors
    /// [`DriverError::List`].
    pub fn list(&self) -> Result<Vec<Device>, DriverError> {
        let mut room = vec![uapi::Device::default(); 16];
        loop {
            let count = ioctl::list(&self.file, &mut room).map_err(DriverError::List)?;
            if count <= room.len() {
                return Ok(room.iter().take(count).map(Device::from).collect());
            }
            room.resize(count + 16, uapi::Device::default());
        }
    }

    /// The device called `name`, if it exists.
    ///
    /// # Errors
    /// [`DriverError::List`].
    pub fn find(&self, name: &DeviceName) -> Result<Option<Device>, DriverError> {
        Ok(self
            .list()?
            .into_iter()
            .find(|device| device.name == name.as_str()))
    }

    /// Whether a device of this name is being destroyed.
    ///
    /// # Errors
    /// [`DriverError::List`].
    pub fn is_one_dying(&self, name: &DeviceName) -> Result<bool, DriverError> {
        Ok(is_one_dying(&self.list()?, name))
    }

    /// Creates a device and attaches this file to it.
    ///
    /// # Errors
    /// [`DriverError::NameExists`], [`DriverError::Create`], and one for each limit of the
    /// module and of the user.
    pub fn create(&self, new: &NewDevice<'_>) -> Result<(), DriverError> {
        let create = uapi::Create {
            name: new.name.to_uapi().name,
            device_id: new.device_id,
            features: new.features,
            flags: if new.zero_copy { uapi::F_ZERO_COPY } else { 0 },
            ..uapi::Create::default()
        };
        let name = || new.name.to_string();
        ioctl::create(&self.file, &create, new.config, new.queue_sizes).map_err(
            |errno| match errno {
                Errno::EEXIST => DriverError::NameExists(name()),
                Errno::ENOSPC => DriverError::TooManyDevices(name()),
                Errno::EDQUOT => DriverError::QuotaReached(name()),
                Errno::EPERM => DriverError::TypeForRoot {
                    name: name(),
                    device_id: new.device_id,
                },
                Errno::EOPNOTSUPP if new.device_id == virtio_ids::VIRTIO_ID_CONSOLE => {
                    DriverError::ConsoleOnOneCpu(name())
                }
                Errno::EOPNOTSUPP => DriverError::PhysicalMemory {
                    name: name(),
                    device_id: new.device_id,
                },
                Errno::E2BIG if new.device_id == virtio_ids::VIRTIO_ID_SOUND => {
                    DriverError::TooManyItems
                }
                source => DriverError::Create {
                    name: name(),
                    source,
                },
            },
        )?;
        self.attached.get_or_init(|| new.name.clone());
        Ok(())
    }

    /// Takes an existing device over.
    ///
    /// # Errors
    /// [`DriverError::NoDevice`], [`DriverError::NotYours`], [`DriverError::NameTaken`],
    /// [`DriverError::Dying`], [`DriverError::Attach`].
    pub fn attach(&self, name: &DeviceName) -> Result<(), DriverError> {
        ioctl::attach(&self.file, &name.to_uapi()).map_err(|errno| match errno {
            Errno::ENOENT => DriverError::NoDevice(name.to_string()),
            Errno::EPERM => DriverError::NotYours(name.to_string()),
            Errno::EBUSY => DriverError::NameTaken(name.to_string()),
            Errno::ESHUTDOWN => DriverError::Dying(name.to_string()),
            source => DriverError::Attach {
                name: name.to_string(),
                source,
            },
        })?;
        self.attached.get_or_init(|| name.clone());
        Ok(())
    }

    /// Asks for a device to be destroyed; it goes when its last user has closed it.
    ///
    /// # Errors
    /// [`DriverError::NoDevice`], [`DriverError::NotYours`], [`DriverError::Destroy`].
    pub fn destroy(&self, name: &DeviceName) -> Result<(), DriverError> {
        ioctl::destroy(&self.file, &name.to_uapi()).map_err(|errno| match errno {
            Errno::ENOENT => DriverError::NoDevice(name.to_string()),
            Errno::EPERM => DriverError::NotYours(name.to_string()),
            source => DriverError::Destroy {
                name: name.to_string(),
                source,
            },
        })
    }
}

impl AsFd for ControlFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// One of this name that is not being destroyed has been made since.
fn is_one_dying(devices: &[Device], name: &DeviceName) -> bool {
    let dying = |device: &Device| device.name == name.as_str() && device.state == State::Dying;
    devices.iter().any(dying)
}

/// The variant for `errno`, unless it means that the device or its queues have gone.
fn or_gone(errno: Errno, variant: impl FnOnce(Errno) -> DriverError) -> DriverError {
    match errno {
        Errno::ESHUTDOWN | Errno::ENODEV => DriverError::Gone,
        Errno::ENXIO => DriverError::NotRunning,
        errno => variant(errno),
    }
}

impl Driver for ControlFile {
    fn device(&self) -> Result<Device, DriverError> {
        let raw = ioctl::get_device(&self.file)
            .map_err(|errno| or_gone(errno, DriverError::GetDevice))?;
        Ok(Device::from(&raw))
    }

    fn is_dying(&self) -> Result<bool, DriverError> {
        match self.attached.get() {
            Some(name) => self.is_one_dying(name),
            None => Ok(false),
        }
    }

    fn queue(&self, index: u32) -> Result<Option<Queue>, DriverError> {
        let raw = ioctl::get_queue(&self.file, index)
            .map_err(|errno| or_gone(errno, |source| DriverError::GetQueue { index, source }))?;
        let size = u16::try_from(raw.size).map_err(|_| DriverError::GetQueue {
            index,
            source: Errno::ERANGE,
        })?;
        Ok((size != 0).then_some(Queue {
            size,
            desc_addr: raw.desc_addr,
            driver_addr: raw.driver_addr,
            device_addr: raw.device_addr,
        }))
    }

    fn memory(&self) -> Result<File, DriverError> {
        let fd = ioctl::get_memory(&self.file)
            .map_err(|errno| or_gone(errno, DriverError::GetMemory))?;
        Ok(File::from(fd))
    }

    fn set_eventfds(&self, index: u32, kick: &EventFd, call: &EventFd) -> Result<(), DriverError> {
        ioctl::set_eventfds(&self.file, index, kick, call)
            .map_err(|errno| or_gone(errno, |source| DriverError::SetEventfds { index, source }))
    }

    fn next_request(&self) -> Result<Option<Request>, DriverError> {
        let mut bytes = [0; uapi::REQUEST_SIZE];
        match (&self.file).read(&mut bytes) {
            Ok(length) => Request::parse(bytes.get(..length).unwrap_or_default()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ESHUTDOWN | Errno::ENODEV) => Err(DriverError::Gone),
                _ => Err(DriverError::ReadRequest(error)),
            },
        }
    }

    fn answer(&self, id: u64, result: Result<(), Errno>) -> Result<bool, DriverError> {
        let status = result.err().map_or(0, |errno| -(errno as i32));
        match ioctl::answer(
            &self.file,
            &uapi::Answer {
                id,
                status,
                reserved: 0,
            },
        ) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => {
                log::warn!("the kernel did not wait any longer for an answer");
                Ok(false)
            }
            Err(errno) => Err(or_gone(errno, DriverError::Answer)),
        }
    }

    fn set_config(&self, offset: u32, data: &[u8], notify: bool) -> Result<(), DriverError> {
        let flags = if notify { uapi::CONFIG_NOTIFY } else { 0 };
        ioctl::set_config(&self.file, offset, data, flags).map_err(|errno| {
            or_gone(errno, |source| match source {
                Errno::E2BIG => DriverError::TooManyItems,
                source => DriverError::SetConfig {
                    offset,
                    length: data.len(),
                    source,
                },
            })
        })
    }
}

fn open_error(path: &Path, source: io::Error) -> DriverError {
    let path = path.display().to_string();
    match source.raw_os_error().map(Errno::from_raw) {
        // ENODEV, ENXIO: a node that depmod or udev made for a module that cannot be loaded.
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => {
            DriverError::ModuleNotLoaded { path, source }
        }
        Some(Errno::EACCES | Errno::EPERM) => DriverError::NoPermission { path, source },
        _ => DriverError::Open { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_control_file_is_a_missing_module() {
        let error = ControlFile::open_at(Path::new("/dev/no-such-virtio-loopback")).unwrap_err();
        assert!(matches!(error, DriverError::ModuleNotLoaded { .. }));
        assert!(error.to_string().contains("modprobe virtio_loopback"));
    }

    #[test]
    fn another_driver_is_recognised() {
        let error = ControlFile::open_at(Path::new("/dev/null")).unwrap_err();
        assert!(
            matches!(
                error,
                DriverError::Info {
                    source: Errno::ENOTTY,
                    ..
                }
            ),
            "{error:?}"
        );
    }

    #[test]
    fn a_new_device_is_not_the_one_of_its_name_that_was_destroyed() {
        let device = |name: &str, state| Device {
            name: name.into(),
            state,
            ..Device::from(&uapi::Device::default())
        };
        let music = "music".parse().unwrap();
        let other = || device("phone", State::Dying);
        assert!(is_one_dying(
            &[other(), device("music", State::Dying)],
            &music
        ));
        assert!(!is_one_dying(
            &[other(), device("music", State::Live)],
            &music
        ));
        assert!(!is_one_dying(&[other()], &music));
    }

    #[test]
    fn open_errors_say_what_to_do() {
        let error = |errno: Errno| open_error(Path::new("x"), errno.into());
        assert!(matches!(
            error(Errno::ENODEV),
            DriverError::ModuleNotLoaded { .. }
        ));
        assert!(
            error(Errno::EACCES)
                .to_string()
                .contains("group virtio-loopback")
        );
        assert!(matches!(error(Errno::EMFILE), DriverError::Open { .. }));
    }
}
