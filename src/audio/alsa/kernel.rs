// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the kernel can do with a PCM and the ALSA library has no safe call for. One of the few files
//! with unsafe code.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A descriptor of our own for the open file behind this number.
///
/// # Errors
/// The number is no open descriptor, or there are too many.
pub fn duplicate(fd: RawFd) -> std::io::Result<OwnedFd> {
    if fd < 0 {
        return Err(std::io::Error::from(nix::errno::Errno::EBADF));
    }
    // SAFETY: it is not -1, and dup only looks the number up; the borrow ends here.
    let known = unsafe { BorrowedFd::borrow_raw(fd) };
    known.try_clone_to_owned()
}

/// `struct snd_pcm_sw_params` of the kernel.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SoftwareParams {
    tstamp_mode: i32,
    period_step: u32,
    sleep_min: u32,
    avail_min: nix::libc::c_ulong,
    xfer_align: nix::libc::c_ulong,
    start_threshold: nix::libc::c_ulong,
    stop_threshold: nix::libc::c_ulong,
    silence_threshold: nix::libc::c_ulong,
    silence_size: nix::libc::c_ulong,
    boundary: nix::libc::c_ulong,
    proto: u32,
    tstamp_type: u32,
    reserved: [u8; 56],
}

impl SoftwareParams {
    /// Time stamps of CLOCK_MONOTONIC, started by START alone, never stopped by an underrun. What
    /// has been played becomes silence, so that nothing is ever played twice. `boundary` is that of
    /// the open PCM.
    pub fn silencing(boundary: nix::libc::c_ulong) -> Self {
        Self {
            tstamp_mode: 1,
            period_step: 1,
            sleep_min: 0,
            avail_min: 1,
            xfer_align: 1,
            start_threshold: boundary,
            stop_threshold: boundary,
            silence_threshold: 0,
            silence_size: boundary,
            boundary,
            // The protocol version from which on the kernel looks at `tstamp_type`.
            proto: 0x2_000c,
            tstamp_type: 1,
            reserved: [0; 56],
        }
    }
}

/// `SNDRV_PCM_IOCTL_SW_PARAMS`, which the ALSA library has no safe call for in full.
///
/// # Errors
/// The descriptor is no PCM that is set up, or it refuses the parameters.
pub fn set_software_params(pcm: BorrowedFd<'_>, mut params: SoftwareParams) -> nix::Result<()> {
    nix::ioctl_readwrite!(sw_params, b'A', 0x13, SoftwareParams);
    // SAFETY: the number of this ioctl says how many bytes the kernel reads and writes, and that is
    // the size of the structure, which outlives the call; a descriptor of anything else refuses it.
    unsafe { sw_params(pcm.as_raw_fd(), &raw mut params) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn software_params_are_laid_out_as_the_kernels() {
        assert_eq!(size_of::<SoftwareParams>(), 136);
        assert_eq!(std::mem::offset_of!(SoftwareParams, avail_min), 16);
        assert_eq!(std::mem::offset_of!(SoftwareParams, silence_size), 56);
        assert_eq!(std::mem::offset_of!(SoftwareParams, tstamp_type), 76);
    }

    #[test]
    fn what_is_no_pcm_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let params = SoftwareParams::silencing(1 << 20);
        let refused = set_software_params(std::os::fd::AsFd::as_fd(&file), params);
        assert_eq!(refused, Err(nix::errno::Errno::ENOTTY));
        assert!(duplicate(-1).is_err());
    }
}
