// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The thread that looks after the elements of one real card: it alone waits for the card's control
//! device, which a slow bus can take long over.

use std::ffi::c_long;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;

use super::control_device::{ControlDevice, Found, Kind};
use super::line::Line;
use crate::description::HostElement;

/// How often a card that is away is looked for, in milliseconds.
const PATIENCE: u16 = 1000;

/// An element that is looked after.
pub struct Watched {
    /// Where it is.
    pub element: HostElement,
    /// What it is.
    pub found: Found,
    /// Who wants to know.
    pub line: Arc<Line>,
    /// Its values, as the driver counts them.
    pub values: Vec<u32>,
    /// The last request that was carried out.
    pub done: u32,
    /// A refusal has been told of.
    pub refused: bool,
}

/// Everything that the thread has.
pub struct Worker {
    /// Name of the card.
    pub card: String,
    /// Its control device; `None` while the card is away.
    pub device: Option<ControlDevice>,
    /// This process has not seen the card yet: what its elements hold is older than that.
    pub unseen: bool,
    /// Its elements.
    pub all: Vec<Watched>,
    /// Wakes this thread, and the audio thread.
    pub wake: Arc<EventFd>,
    /// See `wake`.
    pub audio: Arc<EventFd>,
}

/// A value as the driver counts it, from 0.
pub fn from_real(kind: &Kind, value: c_long) -> u32 {
    let least = if let Kind::Integer(min, ..) = kind {
        *min
    } else {
        0
    };
    u32::try_from(value.saturating_sub(least).max(0)).unwrap_or(u32::MAX)
}

fn to_real(kind: &Kind, value: u32) -> c_long {
    let least = if let Kind::Integer(min, ..) = kind {
        *min
    } else {
        0
    };
    least.saturating_add(value as c_long)
}

impl Watched {
    /// Carries out the newest request; what came of it is told.
    fn follow(&mut self, device: &ControlDevice) -> Result<bool, nix::errno::Errno> {
        let Some((number, values)) = self.line.request(self.done) else {
            return Ok(false);
        };
        self.done = number;
        self.values = values;
        let values = self.values.clone();
        self.write(device, &values)?;
        self.values = device
            .read(&self.found)?
            .iter()
            .map(|&v| from_real(&self.found.kind, v))
            .collect();
        self.line.tell(self.done, &self.values);
        Ok(true)
    }

    fn write(&mut self, device: &ControlDevice, values: &[u32]) -> Result<(), nix::errno::Errno> {
        use nix::errno::Errno;
        let real: Vec<_> = values
            .iter()
            .map(|&v| to_real(&self.found.kind, v))
            .collect();
        match device.write(&self.found, &real) {
            Err(Errno::ENODEV) => Err(Errno::ENODEV),
            Err(error) => {
                if !std::mem::replace(&mut self.refused, true) {
                    let HostElement { card, name, .. } = &self.element;
                    log::warn!("card {card}, element '{name}': {}", error.desc());
                }
                Ok(())
            }
            Ok(()) => {
                self.refused = false;
                Ok(())
            }
        }
    }

    /// Reads the element; tells of values that are new, as all are to who has not seen them yet.
    fn look(&mut self, device: &ControlDevice, unseen: bool) -> Result<bool, nix::errno::Errno> {
        let values = device.read(&self.found)?;
        let values: Vec<_> = values
            .iter()
            .map(|&v| from_real(&self.found.kind, v))
            .collect();
        if values == self.values && !unseen {
            return Ok(false);
        }
        self.values = values;
        self.line.tell(self.done, &self.values);
        Ok(true)
    }

    /// The card is back: its element takes the values that it had, but from who has not seen it yet.
    fn find_again(
        &mut self,
        device: &ControlDevice,
        unseen: bool,
    ) -> Result<(), nix::errno::Errno> {
        let found = device.find(&self.element.name, self.element.index)?;
        let same = (&found.kind, found.count) == (&self.found.kind, self.found.count);
        if !same {
            return Err(nix::errno::Errno::ENOENT);
        }
        self.found = found;
        if self.found.writable && !unseen {
            let values = self.values.clone();
            self.write(device, &values)?;
        }
        Ok(())
    }
}

impl Worker {
    /// Looks after the card until `stop` says so and `wake` is written.
    pub fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let served = match self.device.take() {
                Some(device) => self.serve(&device).map(|()| Some(device)),
                None => Ok(self.look_for_card()),
            };
            match served {
                Ok(device) => self.device = device,
                Err(error) => log::warn!(
                    "card {}: its mixer is away ({error}); its elements keep their last values",
                    self.card
                ),
            }
            self.sleep();
        }
    }

    fn sleep(&self) {
        let mut fds = vec![PollFd::new(self.wake.as_fd(), PollFlags::POLLIN)];
        let device = self.device.as_ref();
        fds.extend(device.map(|device| PollFd::new(device.fd(), PollFlags::POLLIN)));
        let timeout = if device.is_some() {
            PollTimeout::NONE
        } else {
            PollTimeout::from(PATIENCE)
        };
        if poll(&mut fds, timeout).is_err() {
            // Nothing can be waited for; a tight loop would not help.
            std::thread::sleep(std::time::Duration::from_millis(PATIENCE.into()));
        }
        // It does not block; nothing may be there.
        let _ = self.wake.read();
    }

    fn serve(&mut self, device: &ControlDevice) -> std::io::Result<()> {
        let mut news = false;
        for watched in &mut self.all {
            news |= watched.follow(device)?;
        }
        while let Some(numid) = device.next_change()? {
            for watched in self.all.iter_mut().filter(|it| it.found.numid == numid) {
                // What was asked for meanwhile comes first.
                news |= watched.follow(device)? || watched.look(device, false)?;
            }
        }
        if news {
            let _ = self.audio.write(1);
        }
        Ok(())
    }

    fn look_for_card(&mut self) -> Option<ControlDevice> {
        let device = ControlDevice::open(&self.card).ok()?;
        for watched in &mut self.all {
            if let Err(error) = watched.find_again(&device, self.unseen) {
                let name = &watched.element.name;
                log::debug!("card {}, element '{name}': {error}", self.card);
                return None;
            }
        }
        let mut news = false;
        for watched in &mut self.all {
            news |= watched.follow(&device).ok()? || watched.look(&device, self.unseen).ok()?;
        }
        self.unseen = false;
        if news {
            let _ = self.audio.write(1);
        }
        log::warn!("card {}: its mixer is back", self.card);
        Some(device)
    }
}
