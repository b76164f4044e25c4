// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What this process takes from itself before it serves anybody: new privileges, capabilities, files
//! (landlock) and system calls (seccomp). A driver or frontend that finds a fault in this program
//! finds a process that can do little beside playing sound. See docs/attackers.md.
//!
//! It comes in two steps. What binds one thread and those that it starts comes first, before hosts
//! are opened and while there is one thread; system calls are taken from all threads at the end.
//! What the kernel does not offer is left out, and said.

mod call_lists;
mod calls;
mod capabilities;
mod files;
mod needs;
mod part;

use std::fmt;

use crate::process::Priority;

pub use capabilities::Rights;
pub use needs::Needs;
pub use part::Part;

/// The sandbox of this process.
pub struct Sandbox {
    needs: Needs,
    left_out: Vec<Part>,
    on: Vec<String>,
    off: Vec<String>,
}

impl Sandbox {
    /// A sandbox with room for `needs`, without the parts that the user leaves out.
    pub fn new(needs: Needs, left_out: &[Part]) -> Self {
        Self {
            needs,
            left_out: left_out.to_vec(),
            on: Vec::new(),
            off: Vec::new(),
        }
    }

    /// Does one part, unless it is left out, and takes down how that went.
    fn part(&mut self, part: Part, result: impl FnOnce(&Needs) -> Result<String, String>) {
        if [part, Part::All]
            .iter()
            .any(|it| self.left_out.contains(it))
        {
            self.off.push(format!("{part} (--no-sandbox)"));
            return;
        }
        match result(&self.needs) {
            Ok(what) => self.on.push(format!("{part}{what}")),
            Err(reason) => self.off.push(format!("{part} ({reason})")),
        }
    }

    /// The first step: no new privileges, and no files but those that are needed, for this thread and
    /// all that it starts from now on.
    pub fn confine(&mut self) {
        self.part(Part::All, |_| {
            let set = rustix::thread::set_no_new_privs(true);
            set.map(|()| String::new()).map_err(|e| e.to_string())
        });
        self.part(Part::Landlock, files::restrict);
    }

    /// The capabilities that each thread is to keep once it is set up. Memory is locked unless
    /// `priority` is ordinary.
    pub fn rights(&mut self, priority: Priority) -> Rights {
        let mut rights = Rights::all();
        self.part(Part::Capabilities, |needs| {
            rights = Rights::needed(needs, priority != Priority::Ordinary);
            Ok(rights.to_string())
        });
        rights
    }

    /// The last step: no system calls but those that serving needs, for all threads.
    pub fn seal(&mut self) {
        self.part(Part::Seccomp, calls::restrict);
    }

    /// The parts that are on.
    pub fn on(&self) -> &[String] {
        &self.on
    }

    /// The parts that are off, and why.
    pub fn off(&self) -> &[String] {
        &self.off
    }

    /// Tells the log how it is; what is off is told in any case.
    pub fn report(&self) {
        if self.off.is_empty() {
            log::info!("{self}");
        } else {
            log::warn!("{self}");
        }
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |parts: &[String]| match parts {
            [] => "nothing".to_owned(),
            parts => parts.join(", "),
        };
        write!(f, "sandbox: on: {}", list(&self.on))?;
        if !self.off.is_empty() {
            write!(f, "; off: {}", list(&self.off))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
