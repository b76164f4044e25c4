// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The memory that outlives this process (vhost-user, "Inflight I/O tracking"): the frontend keeps its
//! file, and gives it to the next process. First come the regions of the queues, as the specification
//! has them, then what the card remembers of its streams.
//!
//! It is words of 64 bits, little endian, each written at once. Whoever reads it believes nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::memfd::{MFdFlags, memfd_create};
use vhost::vhost_user::message::VhostUserInflight;
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

use crate::ring::MAX_SIZE;
use crate::wire::QUEUES;

const WORD: usize = size_of::<u64>();
/// Regions begin at multiples of this many words.
const ALIGNMENT: usize = 8;
/// Words of a queue's region before its descriptors, and of each descriptor.
const REGION_HEADER: usize = 2;
const DESCRIPTOR: usize = 2;

/// Why an area cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AreaError {
    /// The frontend asks for other queues than a sound device has.
    #[error("an inflight area for {queues} queues of {size} entries does not fit a sound device")]
    Queues {
        /// How many.
        queues: u16,
        /// Entries of each.
        size: u16,
    },
    /// There is no memory for it.
    #[error("cannot make an inflight area: {0}")]
    Make(#[source] io::Error),
    /// It is no regular file, or too short for what it is to hold.
    #[error("the inflight area is too short")]
    Short,
    /// It cannot be mapped.
    #[error("cannot map the inflight area: {0}")]
    Map(String),
}

/// Words of the region of a queue with `size` entries.
fn region_words(size: u16) -> usize {
    (REGION_HEADER + DESCRIPTOR * usize::from(size)).next_multiple_of(ALIGNMENT)
}

/// An area, mapped.
#[derive(Debug)]
pub struct Area {
    map: MmapRegion,
    identity: (u64, u64, u64),
    queue_size: u16,
}

impl Area {
    /// Makes an area for `queues` queues of `size` entries and `words` words of memory of the card.
    ///
    /// # Errors
    /// [`AreaError::Queues`], [`AreaError::Make`]
    pub fn create(
        queues: u16,
        size: u16,
        words: usize,
    ) -> Result<(VhostUserInflight, File), AreaError> {
        check(queues, size)?;
        let bytes = (usize::from(queues) * region_words(size) + words) * WORD;
        let fail = |error: io::Error| AreaError::Make(error);
        let made = memfd_create(c"inflight", MFdFlags::MFD_CLOEXEC);
        let file = File::from(made.map_err(|errno| fail(errno.into()))?);
        file.set_len(bytes as u64).map_err(fail)?;
        Ok((VhostUserInflight::new(bytes as u64, 0, queues, size), file))
    }

    /// Maps the area that a frontend has kept, or that it has from [`Area::create`].
    ///
    /// # Errors
    /// Any [`AreaError`] but [`AreaError::Make`].
    pub fn map(message: &VhostUserInflight, file: File) -> Result<Self, AreaError> {
        check(message.num_queues, message.queue_size)?;
        let (offset, size) = (message.mmap_offset, message.mmap_size);
        let stat = file.metadata().map_err(AreaError::Make)?;
        let end = offset.checked_add(size);
        // Touching what is behind the end of a file would kill this process.
        if !stat.is_file() || end.is_none_or(|end| end > stat.len()) {
            return Err(AreaError::Short);
        }
        let length = usize::try_from(size).map_err(|_| AreaError::Short)?;
        let map = MmapRegion::from_file(FileOffset::new(file, offset), length)
            .map_err(|error| AreaError::Map(error.to_string()))?;
        Ok(Self {
            map,
            identity: (stat.dev(), stat.ino(), offset),
            queue_size: message.queue_size,
        })
    }

    /// Whether both are the same place of the same file.
    pub fn is_same(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    /// The longest queue that it has room for.
    pub fn queue_size(&self) -> u16 {
        self.queue_size
    }

    /// The first word of a queue's region.
    pub fn region(&self, queue: usize) -> usize {
        queue * region_words(self.queue_size)
    }

    /// The first word behind the regions of all queues.
    pub fn behind_queues(&self) -> usize {
        self.region(QUEUES)
    }

    fn word(&self, at: usize) -> Option<&AtomicU64> {
        self.map.get_atomic_ref(at.checked_mul(WORD)?).ok()
    }

    /// Reads a word; 0 behind the end.
    pub fn load(&self, at: usize) -> u64 {
        let word = self.word(at);
        word.map_or(0, |word| u64::from_le(word.load(Ordering::Acquire)))
    }

    /// Writes a word, after everything that was written before; nothing behind the end.
    pub fn store(&self, at: usize, value: u64) {
        if let Some(word) = self.word(at) {
            word.store(value.to_le(), Ordering::Release);
        }
    }
}

/// Whether there is a place for each of this device's queues.
fn check(queues: u16, size: u16) -> Result<(), AreaError> {
    if usize::from(queues) != QUEUES || size == 0 || size > MAX_SIZE {
        return Err(AreaError::Queues { queues, size });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_is_as_long_as_the_specification_has_it() {
        let (message, file) = Area::create(4, 256, 10).unwrap();
        // QueueRegionSplit has 16 bytes, DescStateSplit too; aligned to 64.
        assert_eq!(message.mmap_size, 4 * (16 + 256 * 16 + 48) + 80);
        assert_eq!(file.metadata().unwrap().len(), message.mmap_size);
        let area = Area::map(&message, file.try_clone().unwrap()).unwrap();
        assert_eq!(area.region(1), (16 + 256 * 16 + 48) / 8);
        let last = area.behind_queues() + 9;
        for at in [0, last] {
            assert_eq!(area.load(at), 0);
            area.store(at, 0x1234_5678_9abc_def0);
            assert_eq!(area.load(at), 0x1234_5678_9abc_def0);
        }
        area.store(last + 1, 1);
        area.store(usize::MAX, 1);
        assert_eq!((area.load(last + 1), area.load(usize::MAX)), (0, 0));
        // Another mapping of the file is the same memory.
        let again = Area::map(&message, file).unwrap();
        assert_eq!(again.load(last), 0x1234_5678_9abc_def0);
        assert!(again.is_same(&area));
    }

    #[test]
    fn areas_that_do_not_fit_are_refused() {
        for (queues, size) in [(0, 64), (3, 64), (5, 64), (4, 0), (4, MAX_SIZE + 1)] {
            assert!(matches!(
                Area::create(queues, size, 0),
                Err(AreaError::Queues { .. })
            ));
        }
        let (message, file) = Area::create(4, 64, 0).unwrap();
        let longer = VhostUserInflight::new(message.mmap_size + 1, 0, 4, 64);
        let beyond = VhostUserInflight::new(message.mmap_size, u64::MAX, 4, 64);
        for message in [longer, beyond] {
            let file = file.try_clone().unwrap();
            assert!(matches!(Area::map(&message, file), Err(AreaError::Short)));
        }
        let pipe = File::from(nix::unistd::pipe().unwrap().0);
        assert!(matches!(Area::map(&message, pipe), Err(AreaError::Short)));
        let inside = VhostUserInflight::new(64, 8, 4, 64);
        assert!(matches!(Area::map(&inside, file), Err(AreaError::Map(_))));
    }
}
