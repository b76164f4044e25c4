// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Memory that driver and device share: one region at guest address 0, backed by a memfd.

use std::cell::Cell;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;

use nix::sys::memfd::{MFdFlags, memfd_create};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const PAGE: u64 = 4096;
const NAME: &CStr = c"driver memory";
/// Bytes of the region; mostly holes.
pub const SIZE: u64 = 64 << 20;

/// One mapping of the memory file.
pub struct SharedMemory {
    file: File,
    map: GuestMemoryMmap,
    /// The first byte that nothing uses yet. The first page never is, as in the kernel driver.
    free: Cell<u64>,
}

impl SharedMemory {
    /// A new memory file.
    pub fn new() -> Self {
        let file = File::from(memfd_create(NAME, MFdFlags::MFD_CLOEXEC).unwrap());
        file.set_len(SIZE).unwrap();
        Self::map(file, PAGE)
    }

    /// The same memory file mapped once more, at another address, as a second frontend has it.
    pub fn mapped_again(&self) -> Self {
        Self::map(self.file.try_clone().unwrap(), self.free.get())
    }

    fn map(file: File, free: u64) -> Self {
        let offset = FileOffset::new(file.try_clone().unwrap(), 0);
        let region = (GuestAddress(0), SIZE as usize, Some(offset));
        let map = GuestMemoryMmap::from_ranges_with_files([region]).unwrap();
        let free = Cell::new(free);
        Self { file, map, free }
    }

    /// Descriptor of the memory file.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Where this mapping begins in this process.
    pub fn user_address(&self) -> u64 {
        self.map.get_host_address(GuestAddress(0)).unwrap() as u64
    }

    /// Takes `bytes` bytes that nothing else uses; they start at a page where `aligned`.
    pub fn allocate(&self, bytes: u64, aligned: bool) -> u64 {
        let step = if aligned { PAGE } else { 16 };
        let at = self.free.get().next_multiple_of(step);
        self.free.set(at + bytes);
        assert!(self.free.get() <= SIZE, "the test needs more memory");
        at
    }

    /// Writes bytes.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.map.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    /// Reads bytes.
    pub fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.map.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    /// Stores an index that the device reads.
    pub fn store16(&self, at: u64, value: u16) {
        let value = value.to_le();
        self.map
            .store(value, GuestAddress(at), Ordering::SeqCst)
            .unwrap();
    }

    /// Loads an index that the device writes.
    pub fn load16(&self, at: u64) -> u16 {
        u16::from_le(self.map.load(GuestAddress(at), Ordering::SeqCst).unwrap())
    }
}
