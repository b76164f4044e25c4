// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the kernel shares of a hw PCM: its period interrupt, from how many frames on that wakes, and
//! where the pointer was then.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use alsa::direct::pcm::{Control, Status};
use alsa::pcm::{Frames, PCM, State};
use alsa::poll::Descriptors;
use nix::poll::PollFlags;

use super::kernel::{self, SoftwareParams};
use crate::wire::Direction;

/// The interrupt of an open PCM.
pub struct Interrupt {
    descriptor: OwnedFd,
    control: Control,
    status: Status,
    boundary: Frames,
    buffer: Frames,
    direction: Direction,
}

impl Interrupt {
    /// That of a PCM with `buffer` frames. Only of the hardware itself, not of a plugin before it,
    /// whose frames are others; and not where the kernel keeps its pointers to itself.
    pub fn of(pcm: &PCM, device: &str, direction: Direction, buffer: u64) -> Option<Self> {
        if !device.starts_with("hw:") {
            return None;
        }
        let polled = pcm.get().ok()?;
        let &[polled] = polled.as_slice() else {
            return None;
        };
        let descriptor = kernel::duplicate(polled.fd).ok()?;
        let boundary = pcm.sw_params_current().and_then(|sw| sw.get_boundary());
        let boundary = boundary.ok()?;
        let params = SoftwareParams::silencing(boundary.try_into().ok()?);
        kernel::set_software_params(descriptor.as_fd(), params).ok()?;
        Some(Self {
            control: Control::new(pcm).ok()?,
            status: Status::new(pcm).ok()?,
            descriptor,
            boundary,
            buffer: buffer.try_into().ok()?,
            direction,
        })
    }

    /// The next interrupt that finds so many frames to be written or read wakes.
    pub fn await_frames(&self, frames: u64) {
        if let Ok(frames) = Frames::try_from(frames) {
            self.control.set_avail_min(frames);
        }
    }

    /// The frames that could be written or read at the last interrupt; `None` where the PCM does not
    /// run, or is further ahead than its buffer.
    pub fn available(&self) -> Option<u64> {
        if self.status.state() != State::Running {
            return None;
        }
        let pointers = (self.status.hw_ptr(), self.control.appl_ptr());
        available(self.direction, pointers, self.buffer, self.boundary)
    }

    /// The descriptor to poll, and for what.
    pub fn waker(&self) -> (BorrowedFd<'_>, PollFlags) {
        let flags = match self.direction {
            Direction::Playback => PollFlags::POLLOUT,
            Direction::Capture => PollFlags::POLLIN,
        };
        (self.descriptor.as_fd(), flags)
    }
}

/// The frames that can be written or read, from the hardware's pointer and the program's. Both start
/// anew at `boundary`.
fn available(
    direction: Direction,
    (hardware, program): (Frames, Frames),
    buffer: Frames,
    boundary: Frames,
) -> Option<u64> {
    let ahead = hardware.checked_sub(program)?;
    let ahead = match direction {
        Direction::Playback => ahead.checked_add(buffer)?,
        Direction::Capture => ahead,
    };
    let frames = ahead.checked_rem_euclid(boundary)?;
    u64::try_from(frames).ok().filter(|_| frames <= buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Capture, Playback};

    #[test]
    fn pointers_tell_what_can_be_written_or_read() {
        let of =
            |direction, hardware, program| available(direction, (hardware, program), 960, 9600);
        assert_eq!(of(Playback, 0, 0), Some(960));
        assert_eq!(of(Playback, 480, 960), Some(480));
        assert_eq!(of(Playback, 480, 1440), Some(0));
        assert_eq!(of(Capture, 480, 0), Some(480));
        assert_eq!(of(Capture, 960, 0), Some(960));
    }

    #[test]
    fn pointers_start_anew_at_the_boundary() {
        let of =
            |direction, hardware, program| available(direction, (hardware, program), 960, 9600);
        assert_eq!(of(Playback, 9500, 100), Some(760));
        assert_eq!(of(Playback, 100, 9500), None);
        assert_eq!(of(Capture, 100, 9500), Some(200));
    }

    #[test]
    fn a_card_that_is_ahead_of_its_buffer_is_asked_itself() {
        assert_eq!(available(Playback, (490, 480), 960, 9600), None);
        assert_eq!(available(Capture, (1000, 0), 960, 9600), None);
        assert_eq!(available(Capture, (0, 0), 960, 0), None);
    }
}
