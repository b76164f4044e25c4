// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The memory file of a device, mapped: the addresses that vhost-user wants, and the used index.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;

use vm_memory::mmap::MmapRegionError;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

/// Offset of `idx` in a split virtqueue's used ring (virtio 1.3, section 2.7.8).
const USED_IDX: usize = 2;

/// The memory file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// `fstat()`
    #[error("cannot read the size of the device's memory file")]
    Size(#[source] io::Error),
    /// A read behind the end would be SIGBUS.
    #[error("the device's memory file has {actual} bytes, less than the {reported} reported")]
    TooShort {
        /// Bytes of the file.
        actual: u64,
        /// What it should have.
        reported: u64,
    },
    /// `mmap()`
    #[error("cannot map {size} bytes of the device's memory file")]
    Map {
        /// Bytes.
        size: u64,
        /// Of `mmap()`.
        source: MmapRegionError,
    },
    /// An address in a queue is no offset in the file.
    #[error("the kernel reports a queue at {0:#x}, outside the device's memory file")]
    Outside(u64),
    /// The used ring is not where the kernel says.
    #[error("cannot read the used index at {address:#x}")]
    UsedIndex {
        /// Offset of the used ring.
        address: u64,
        /// Out of bounds, or not aligned.
        source: vm_memory::VolatileMemoryError,
    },
}

/// The whole memory file of a device, shared and mapped.
#[derive(Debug)]
pub struct DeviceMemory {
    file: File,
    region: MmapRegion,
}

impl DeviceMemory {
    /// Maps `size` bytes of `file`.
    ///
    /// # Errors
    /// [`MemoryError::Size`], [`MemoryError::TooShort`], [`MemoryError::Map`]
    pub fn map(file: File, size: u64) -> Result<Self, MemoryError> {
        let actual = file.metadata().map_err(MemoryError::Size)?.len();
        if actual < size {
            return Err(MemoryError::TooShort {
                actual,
                reported: size,
            });
        }
        let map_error = |source| MemoryError::Map { size, source };
        let mapped = file
            .try_clone()
            .map_err(|error| map_error(MmapRegionError::Mmap(error)))?;
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        let region =
            MmapRegion::from_file(FileOffset::new(mapped, 0), length).map_err(map_error)?;
        Ok(Self { file, region })
    }

    /// The file, for the device process.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.region.size() as u64
    }

    /// Where the file begins in this process: what vhost-user calls the user address.
    pub fn user_address(&self) -> u64 {
        self.region.as_ptr() as u64
    }

    /// The user address of an offset in the file.
    ///
    /// # Errors
    /// [`MemoryError::Outside`]
    pub fn user_address_of(&self, offset: u64) -> Result<u64, MemoryError> {
        if offset == 0 || offset >= self.size() {
            return Err(MemoryError::Outside(offset));
        }
        Ok(self.user_address() + offset)
    }

    /// The used index of a split virtqueue whose used ring is at offset `used_ring`.
    ///
    /// # Errors
    /// [`MemoryError::Outside`], [`MemoryError::UsedIndex`]
    pub fn used_index(&self, used_ring: u64) -> Result<u16, MemoryError> {
        let offset = usize::try_from(used_ring)
            .ok()
            .and_then(|offset| offset.checked_add(USED_IDX))
            .ok_or(MemoryError::Outside(used_ring))?;
        let index = self
            .region
            .get_slice(offset, size_of::<u16>())
            .and_then(|slice| slice.load::<u16>(0, Ordering::Acquire));
        match index {
            Ok(index) => Ok(u16::from_le(index)),
            Err(source) => Err(MemoryError::UsedIndex {
                address: used_ring,
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn memory(size: u64) -> (File, DeviceMemory) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        let memory = DeviceMemory::map(file.try_clone().unwrap(), size).unwrap();
        (file, memory)
    }

    #[test]
    fn the_used_index_is_read_where_the_ring_is() {
        let (file, memory) = memory(8192);
        file.write_all_at(&0xfffeu16.to_le_bytes(), 4096 + 2)
            .unwrap();
        assert_eq!(memory.used_index(4096).unwrap(), 0xfffe);
    }

    #[test]
    fn addresses_outside_are_errors() {
        let (_file, memory) = memory(4096);
        for address in [4095, 4096, u64::MAX, u64::MAX - 1] {
            assert!(memory.used_index(address).is_err(), "{address}");
        }
        // Not aligned: the kernel never does that, and an atomic load could not either.
        assert!(matches!(
            memory.used_index(1),
            Err(MemoryError::UsedIndex { .. })
        ));
        for address in [0, 4096, u64::MAX] {
            assert!(matches!(
                memory.user_address_of(address),
                Err(MemoryError::Outside(_))
            ));
        }
        assert_eq!(
            memory.user_address_of(16).unwrap(),
            memory.user_address() + 16
        );
    }

    #[test]
    fn a_file_that_is_too_short_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let error = DeviceMemory::map(file, 8192).unwrap_err();
        assert!(matches!(
            error,
            MemoryError::TooShort {
                actual: 4096,
                reported: 8192
            }
        ));
    }
}
