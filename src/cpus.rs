// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The CPUs that this process runs on.

use std::collections::BTreeSet;
use std::fmt;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread. Threads that it starts later run where it does.
const SELF: Pid = Pid::from_raw(0);

/// Numbers of CPUs; at least one of those that a user names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(BTreeSet<usize>);

impl Cpus {
    /// Those that the calling thread may use: what `taskset`, a cpuset or a unit of the service manager has
    /// left to it.
    ///
    /// # Errors
    /// The system does not say.
    pub fn allowed() -> nix::Result<Self> {
        let set = sched_getaffinity(SELF)?;
        let known = 0..CpuSet::count();
        Ok(Self(
            known
                .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
                .collect(),
        ))
    }

    /// Those that the machine has and that are switched off; none where the system does not say.
    pub fn offline() -> Self {
        let read = |name| {
            let list = std::fs::read_to_string(format!("/sys/devices/system/cpu/{name}"));
            parse_cpus(list.unwrap_or_default().trim()).unwrap_or(Self(BTreeSet::new()))
        };
        read("present").beyond(&read("online"))
    }

    /// Those of these that are not among `others`.
    pub fn beyond(&self, others: &Self) -> Self {
        Self(self.0.difference(&others.0).copied().collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Has the calling thread, and the threads that it starts from now on, run on these alone.
    ///
    /// # Errors
    /// The system does not allow it.
    pub fn enter(&self) -> nix::Result<()> {
        let mut set = CpuSet::new();
        for &cpu in &self.0 {
            set.set(cpu)?;
        }
        sched_setaffinity(SELF, &set)
    }
}

/// As the kernel and `taskset -c` write it: `0-1,3`.
impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = left.next() {
            let mut last = first;
            while let Some(next) = left.next_if(|&next| next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

/// The CPUs that a user names, such as `0-1,3`.
///
/// # Errors
/// Says what is allowed.
pub fn parse_cpus(list: &str) -> Result<Cpus, String> {
    let mut cpus = BTreeSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<usize>(), last.parse::<usize>()) {
            (Ok(first), Ok(last)) if first <= last && last < CpuSet::count() => {
                cpus.extend(first..=last);
            }
            _ => {
                return Err(format!(
                    "numbers of CPUs and ranges of them such as 0-1,3, from 0 to {}",
                    CpuSet::count() - 1
                ));
            }
        }
    }
    Ok(Cpus(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for (list, written) in [
            ("0", "0"),
            ("3,1,0", "0-1,3"),
            ("0-1,3", "0-1,3"),
            ("5,4,4-6,8-8", "4-6,8"),
            ("1023", "1023"),
        ] {
            assert_eq!(parse_cpus(list).unwrap().to_string(), written, "{list}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for wrong in [
            "", ",", "0,", "1-0", "-1", "1-", "a", "0x1", "0;1", "1024", "0-1024", " 0",
        ] {
            let error = parse_cpus(wrong).unwrap_err();
            assert!(error.contains("0-1,3") && error.contains("1023"), "{wrong}");
        }
    }

    #[test]
    fn a_thread_runs_where_it_is_sent_and_threads_after_it_too() {
        let allowed = Cpus::allowed().unwrap();
        let last = Cpus(allowed.0.last().copied().into_iter().collect());
        assert!(!allowed.is_empty() && last.beyond(&allowed).is_empty());
        let sent = last.clone();
        let child = move || {
            sent.enter().unwrap();
            let found = std::thread::spawn(Cpus::allowed).join().unwrap();
            assert_eq!(found.unwrap(), sent);
        };
        std::thread::spawn(child).join().unwrap();
        // The test's own thread stays where it was.
        assert_eq!(Cpus::allowed().unwrap(), allowed);
        let beyond = parse_cpus("1023").unwrap();
        assert_eq!(beyond.beyond(&last).to_string(), "1023");
    }
}
