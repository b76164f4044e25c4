// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Capabilities, which each thread has for itself.

use std::fmt;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use rustix::thread::{clear_ambient_capability_set, remove_capability_from_bounding_set};

use super::Needs;

/// The highest real-time priority.
const HIGHEST: u64 = 99;

/// The capabilities that a thread keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(CapabilitySet);

impl Rights {
    /// Whatever the process was started with.
    pub fn all() -> Self {
        Self(CapabilitySet::all())
    }

    /// What serving needs: nothing, once the audio thread is real-time, but what no limit of the
    /// process makes up for. Memory that is `locked` beyond its limit stays so only for who may do
    /// that; a library that makes real-time threads of its own does so later.
    pub fn needed(needs: &Needs, locked: bool) -> Self {
        let mut kept = CapabilitySet::empty();
        if locked && !is_at_least(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY) {
            kept |= CapabilitySet::IPC_LOCK;
        }
        if needs.real_time_threads {
            // It fails for who may not, and has no capability to lose either.
            let _ = setrlimit(Resource::RLIMIT_RTPRIO, HIGHEST, HIGHEST);
            if !is_at_least(Resource::RLIMIT_RTPRIO, HIGHEST) {
                kept |= CapabilitySet::SYS_NICE;
            }
        }
        let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        Self(kept & held)
    }

    /// Takes all others from this thread and those that it starts. What it is not allowed to take
    /// away, it does not have.
    pub fn drop_others(self) {
        if self == Self::all() {
            return;
        }
        for capability in CapabilitySet::all() & !self.0 {
            // It takes a capability to do so; without new privileges, none comes back anyway.
            let _ = remove_capability_from_bounding_set(capability);
        }
        let _ = clear_ambient_capability_set();
        let sets = CapabilitySets {
            effective: self.0,
            permitted: self.0,
            inheritable: CapabilitySet::empty(),
        };
        if let Err(error) = set_capabilities(None, sets) {
            log::warn!("sandbox: capabilities are kept: {error}");
        }
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (CapabilitySet::IPC_LOCK, "CAP_IPC_LOCK"),
            (CapabilitySet::SYS_NICE, "CAP_SYS_NICE"),
        ];
        let kept = names.iter().filter(|(bit, _)| self.0.contains(*bit));
        match kept.map(|(_, name)| *name).collect::<Vec<_>>()[..] {
            [] => Ok(()),
            ref kept => write!(f, " (but for {})", kept.join(" and ")),
        }
    }
}

fn is_at_least(resource: Resource, wanted: u64) -> bool {
    getrlimit(resource).is_ok_and(|(soft, _)| soft >= wanted)
}
