// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What this kernel lacks of what a sandbox is made of, asked of the kernel and not of the sandbox.

use std::fs;

use landlock::{AccessFs, LandlockStatus, Ruleset, RulesetAttr, RulesetError};

/// Parts of the sandbox that may be off, as its report names them.
pub fn lacks() -> Vec<&'static str> {
    let parts = [("landlock", has_landlock()), ("seccomp", has_filters())];
    let missing = parts.into_iter().filter(|(_, has)| !has);
    missing.map(|(part, _)| part).collect()
}

/// What reports say to be off, but for what the kernel `lacks`.
pub fn needlessly_off(reports: &str, lacks: &[&str]) -> Vec<&'static str> {
    let lines = reports
        .lines()
        .filter_map(|line| line.split_once("; off: "));
    let off: Vec<_> = lines.map(|(_, off)| off).collect();
    let parts = ["no-new-privileges", "capabilities", "landlock", "seccomp"];
    let is_off = |part: &str| off.iter().any(|off| off.contains(&format!("{part} (")));
    let off = parts.into_iter().filter(|part| is_off(part));
    off.filter(|part| !lacks.contains(part)).collect()
}

/// Whether it can filter system calls.
pub fn has_filters() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Seccomp:"))
}

/// The least of all rules is tried, by a thread that has nothing else to do.
fn has_landlock() -> bool {
    let restrict = || -> Result<LandlockStatus, RulesetError> {
        let rules = Ruleset::default().handle_access(AccessFs::MakeFifo)?;
        Ok(rules.create()?.restrict_self()?.landlock)
    };
    let status = std::thread::spawn(restrict).join().unwrap();
    !matches!(
        status,
        Ok(LandlockStatus::NotEnabled | LandlockStatus::NotImplemented)
    )
}
