// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The memory that the driver shares: its regions, where the frontend sees them, and whether two
//! tables are the same memory.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::libc;
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryMmap, GuestMemoryRegion, GuestRegionCollectionError,
    GuestRegionMmap,
};

use crate::system;

/// A page of this process's own among the driver's memory, behind all that a driver can have. What a
/// driver does to it disturbs nobody but that driver.
pub const OWN_PAGE: GuestAddress = GuestAddress(1 << 62);
const OWN_PAGE_SIZE: usize = 4096;

/// Why a memory table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A region's file says nothing about itself.
    #[error("memory region {region}: stat of its file: {source}")]
    Stat {
        /// Place in the table.
        region: usize,
        /// What the system said.
        source: std::io::Error,
    },
    /// A region reaches beyond its file: touching what is behind would kill this process.
    #[error("memory region {region} is longer than its file")]
    Short {
        /// Place in the table.
        region: usize,
    },
    /// A region cannot be mapped.
    #[error("memory region {region}: {reason}")]
    Map {
        /// Place in the table.
        region: usize,
        /// What mmap or the bounds check said.
        reason: String,
    },
    /// The regions overlap, or there is none.
    #[error("memory table: {0}")]
    Table(String),
}

/// What makes a region the same as one of another table: its file and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    offset: u64,
    guest: u64,
    size: u64,
}

/// The driver's memory, mapped.
pub struct Memory {
    map: GuestMemoryMmap,
    regions: Vec<(Identity, u64)>,
}

impl Memory {
    /// Maps the regions of SET_MEM_TABLE.
    ///
    /// # Errors
    /// A region that is empty, too long for its file or overlaps another.
    pub fn new(table: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<Self, MemoryError> {
        let mut regions = Vec::new();
        let mut maps = Vec::new();
        for (region, (entry, file)) in table.iter().zip(files).enumerate() {
            let stat = file
                .metadata()
                .map_err(|source| MemoryError::Stat { region, source })?;
            let (guest, size) = (entry.guest_phys_addr, entry.memory_size);
            let fail = |reason: String| MemoryError::Map { region, reason };
            let end = entry.mmap_offset.checked_add(size);
            if stat.is_file() && end.is_none_or(|end| end > stat.len()) {
                return Err(MemoryError::Short { region });
            }
            let length = usize::try_from(size).map_err(|error| fail(error.to_string()))?;
            let offset = FileOffset::new(file, entry.mmap_offset);
            let map = MmapRegionBuilder::new(length)
                .with_mmap_prot(libc::PROT_NONE)
                .with_mmap_flags(libc::MAP_NORESERVE | libc::MAP_SHARED)
                .with_file_offset(offset)
                .build()
                .map_err(|error| fail(error.to_string()))?;
            system::allow_access(&map).map_err(|error| fail(error.desc().to_owned()))?;
            let map = GuestRegionMmap::new(map, GuestAddress(guest))
                .ok_or_else(|| fail("its addresses overflow".to_owned()))?;
            maps.push(map);
            let identity = Identity {
                device: stat.dev(),
                inode: stat.ino(),
                offset: entry.mmap_offset,
                guest,
                size,
            };
            regions.push((identity, entry.user_addr));
        }
        maps.sort_by_key(GuestMemoryRegion::start_addr);
        let table = |error: GuestRegionCollectionError| MemoryError::Table(error.to_string());
        let map = GuestMemoryMmap::from_regions(maps).map_err(table)?;
        let own = GuestRegionMmap::from_range(OWN_PAGE, OWN_PAGE_SIZE, None)
            .map_err(|error| MemoryError::Table(error.to_string()))?;
        let map = map.insert_region(Arc::new(own)).map_err(table)?;
        Ok(Self { map, regions })
    }

    /// The mapping.
    pub fn map(&self) -> &GuestMemoryMmap {
        &self.map
    }

    /// Where an address of the frontend's own mapping lies in the driver's memory.
    pub fn guest_address(&self, user: u64) -> Option<GuestAddress> {
        self.regions.iter().find_map(|(region, start)| {
            let offset = user
                .checked_sub(*start)
                .filter(|&offset| offset < region.size)?;
            region.guest.checked_add(offset).map(GuestAddress)
        })
    }

    /// Whether both tables show the same places of the same files, so that rings and messages of
    /// one are found in the other.
    pub fn is_same(&self, other: &Self) -> bool {
        let identities = |memory: &Self| {
            let mut all: Vec<_> = memory
                .regions
                .iter()
                .map(|(identity, _)| *identity)
                .collect();
            all.sort_by_key(|identity| identity.guest);
            all
        };
        identities(self) == identities(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        file
    }

    fn region(guest: u64, size: u64, user: u64) -> VhostUserMemoryRegion {
        VhostUserMemoryRegion {
            guest_phys_addr: guest,
            memory_size: size,
            user_addr: user,
            mmap_offset: 0,
        }
    }

    #[test]
    fn addresses_of_the_frontend_are_translated() {
        let table = [region(0x10_0000, 0x1000, 0x5000), region(0, 0x1000, 0x9000)];
        let memory = Memory::new(&table, vec![file(0x1000), file(0x1000)]).unwrap();
        assert_eq!(memory.guest_address(0x5000), Some(GuestAddress(0x10_0000)));
        assert_eq!(memory.guest_address(0x9fff), Some(GuestAddress(0xfff)));
        for outside in [0, 0x4fff, 0x6000, 0xa000, u64::MAX] {
            assert_eq!(memory.guest_address(outside), None, "{outside:#x}");
        }
    }

    #[test]
    fn the_same_file_is_the_same_memory_wherever_the_frontend_maps_it() {
        let shared = file(0x2000);
        let map = |file: &File, size, user| {
            Memory::new(&[region(0, size, user)], vec![file.try_clone().unwrap()]).unwrap()
        };
        let memory = map(&shared, 0x2000, 0x1000);
        assert!(memory.is_same(&map(&shared, 0x2000, 0x7000)));
        assert!(!memory.is_same(&map(&shared, 0x1000, 0x1000)));
        assert!(!memory.is_same(&map(&file(0x2000), 0x2000, 0x1000)));
    }

    #[test]
    fn regions_that_do_not_fit_are_refused() {
        assert!(Memory::new(&[region(0, 0x2000, 0)], vec![file(0x1000)]).is_err());
        let overlapping = [region(0, 0x1000, 0), region(0x800, 0x1000, 0x8000)];
        assert!(Memory::new(&overlapping, vec![file(0x1000), file(0x1000)]).is_err());
        assert!(Memory::new(&[region(u64::MAX - 1, 0x1000, 0)], vec![file(0x1000)]).is_err());
    }
}
