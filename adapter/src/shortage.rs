// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a machine that has run short of something answers, and may not answer in a moment: no
//! descriptors, no memory, no room in a queue.

use std::error::Error;
use std::io;

use nix::errno::Errno;
use vm_memory::mmap::MmapRegionError;

/// Whether `error`, or what caused it, may be over when it is tried again. What a person has to put
/// right, such as rights, is none of that.
pub fn is_shortage(error: &(dyn Error + 'static)) -> bool {
    errno_of(error).is_some_and(is_short) || error.source().is_some_and(is_shortage)
}

fn is_short(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EAGAIN
            | Errno::EINTR
            | Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOMEM
            | Errno::ENOBUFS
            | Errno::ECONNRESET
    )
}

fn errno_of(error: &(dyn Error + 'static)) -> Option<Errno> {
    let of_io = |error: &io::Error| error.raw_os_error().map(Errno::from_raw);
    if let Some(error) = error.downcast_ref() {
        return of_io(error);
    }
    // It does not name its cause.
    if let Some(MmapRegionError::Mmap(error)) = error.downcast_ref() {
        return of_io(error);
    }
    error.downcast_ref().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_what_may_be_over_in_a_moment() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EAGAIN] {
            assert!(is_shortage(&errno));
            assert!(is_shortage(&io::Error::from(errno)));
            assert!(is_shortage(&MmapRegionError::Mmap(errno.into())));
        }
        for errno in [Errno::EACCES, Errno::ENOENT, Errno::EINVAL, Errno::EPERM] {
            assert!(!is_shortage(&io::Error::from(errno)));
        }
        assert!(!is_shortage(&io::Error::other("something else")));
        assert!(!is_shortage(&MmapRegionError::MapFixed));
    }
}
