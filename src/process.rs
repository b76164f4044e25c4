// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a card's process takes of the machine: on which CPUs it runs, and before whom.
//!
//! Where nothing is said, the process stays what its parent has made it (`taskset`, `chrt`, a unit of the
//! service manager): it runs on those CPUs, and where it is real-time already, all of it stays so. What
//! is said here goes before that.

use nix::errno::Errno;

use crate::cpus::Cpus;
use crate::realtime;
use crate::system;

/// The priority of a kernel's threaded interrupts, for the device is hardware to the programs that
/// play: those that are real-time themselves, such as PipeWire with its 83 and above, go before it.
pub const DEFAULT_PRIORITY: u8 = 50;

/// The choices for one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// The CPUs to run on, and who says so, for errors: an option, or a line of a card file.
    pub cpus: Option<(Cpus, String)>,
    /// The audio thread's priority; 0 for none.
    pub priority: Option<u8>,
}

/// Why a choice cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The process may not run there.
    #[error(
        "{said_by}: this process may not run on CPU {beyond}; it may use {allowed}, which is what the \
         machine, taskset, a cpuset or its unit leaves to it"
    )]
    Beyond {
        /// Who says so.
        said_by: String,
        /// The CPUs that it may not use.
        beyond: Cpus,
        /// Those that it may.
        allowed: Cpus,
    },
    /// The system keeps the process real-time.
    #[error("cannot leave the real-time policy that the parent process gave: {0}")]
    Ordinary(#[source] Errno),
    /// The system refuses.
    #[error("{0}: the CPUs cannot be chosen: {1}")]
    Refused(String, #[source] Errno),
}

/// What becomes of the audio thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// It is an ordinary thread.
    Ordinary,
    /// It has the policy and priority of the process, which is real-time.
    Inherited,
    /// SCHED_FIFO with this priority.
    Fifo(u8),
}

impl Process {
    /// These choices where they are made, otherwise those of `other`.
    pub fn or(self, other: Self) -> Self {
        Self {
            cpus: self.cpus.or(other.cpus),
            priority: self.priority.or(other.priority),
        }
    }

    /// Sends the process to its CPUs and locks its memory if it is to be real-time. To be called
    /// before there are threads, which would stay behind. Returns what becomes of the audio thread.
    ///
    /// # Errors
    /// The process may not use the CPUs.
    pub fn enter(&self) -> Result<Priority, ProcessError> {
        if let Some((cpus, said_by)) = &self.cpus {
            let refused = |error| ProcessError::Refused(said_by.clone(), error);
            let allowed = Cpus::allowed().map_err(refused)?;
            let off = Cpus::offline();
            let beyond = cpus.beyond(&allowed).beyond(&off);
            if !beyond.is_empty() {
                return Err(ProcessError::Beyond {
                    said_by: said_by.clone(),
                    beyond,
                    allowed,
                });
            }
            if cpus.beyond(&off).is_empty() {
                // As the kernel does with a process whose last CPU goes.
                log::warn!("{said_by}: CPU {cpus} is offline; it runs on {allowed}");
            } else {
                // Of these, the kernel uses those that are online.
                cpus.enter().map_err(refused)?;
            }
        }
        let priority = self.audio_priority(system::hands_on_realtime());
        if priority != Priority::Inherited {
            // The audio thread alone is real-time: no other goes before it.
            system::be_ordinary().map_err(ProcessError::Ordinary)?;
        }
        if priority != Priority::Ordinary {
            realtime::lock_memory();
        }
        Ok(priority)
    }

    fn audio_priority(&self, inherited: bool) -> Priority {
        match (self.priority, inherited) {
            (Some(0), _) => Priority::Ordinary,
            (Some(priority), _) => Priority::Fifo(priority),
            (None, true) => Priority::Inherited,
            (None, false) => Priority::Fifo(DEFAULT_PRIORITY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpus::parse_cpus;

    fn process(cpus: Option<&str>, priority: Option<u8>) -> Process {
        Process {
            cpus: cpus.map(|list| (parse_cpus(list).unwrap(), format!("--cpus {list}"))),
            priority,
        }
    }

    #[test]
    fn each_choice_wins_by_itself() {
        let card = process(Some("1"), Some(7));
        let or_card = |line: Process| line.or(card.clone());
        assert_eq!(or_card(Process::default()), card);
        assert_eq!(or_card(process(None, Some(0))), process(Some("1"), Some(0)));
        assert_eq!(
            or_card(process(Some("2"), None)),
            process(Some("2"), Some(7))
        );
    }

    #[test]
    fn what_is_said_goes_before_what_is_inherited() {
        let of = |said, inherited| process(None, said).audio_priority(inherited);
        assert_eq!(of(None, false), Priority::Fifo(DEFAULT_PRIORITY));
        assert_eq!(of(None, true), Priority::Inherited);
        for inherited in [false, true] {
            assert_eq!(of(Some(0), inherited), Priority::Ordinary);
            assert_eq!(of(Some(9), inherited), Priority::Fifo(9));
        }
    }

    #[test]
    fn a_cpu_that_is_not_there_is_named_with_those_that_are() {
        let error = process(Some("1022-1023"), None).enter().unwrap_err();
        let error = error.to_string();
        let allowed = Cpus::allowed().unwrap();
        let told = format!("may not run on CPU 1022-1023; it may use {allowed},");
        assert!(
            error.starts_with("--cpus 1022-1023: ") && error.contains(&told),
            "{error}"
        );
    }
}
