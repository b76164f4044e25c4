// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files, TCP ports, and what other processes could be told (landlock).

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Needs;
use super::needs::ANYTHING;

/// The newest rights that are handled. What the running kernel does not know is left out.
const KNOWN: ABI = ABI::V6;

/// Takes all files from this thread but those that are needed.
///
/// # Errors
/// Why the kernel does not do it.
pub fn restrict(needs: &Needs) -> Result<String, String> {
    if needs.anything {
        return Err(ANYTHING.to_owned());
    }
    let status = rules(needs)
        .and_then(RulesetCreated::restrict_self)
        .map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => Err("not in this kernel, or not enabled".to_owned()),
        (RulesetStatus::FullyEnforced, _) => Ok(String::new()),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(format!(
            " (as far as version {} goes)",
            effective_abi as i32
        )),
        _ => Ok(" (in part)".to_owned()),
    }
}

fn rules(needs: &Needs) -> Result<RulesetCreated, RulesetError> {
    let all = AccessFs::from_all(KNOWN);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let device = read | AccessFs::WriteFile | AccessFs::IoctlDev;
    let write = AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::Truncate;
    let socket = AccessFs::MakeSock | AccessFs::RemoveFile;
    let mut ruleset = Ruleset::default()
        .handle_access(all)?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for (paths, access) in [
        (&needs.read, read),
        (&needs.devices, device),
        (&needs.write, write),
        (&needs.sockets, socket),
    ] {
        for path in paths {
            ruleset = allow(ruleset, path, access)?;
        }
    }
    Ok(ruleset)
}

/// Lets a path be used; one that is not there needs nothing.
fn allow(
    ruleset: RulesetCreated,
    path: &PathBuf,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(place) = PathFd::new(path) else {
        return Ok(ruleset);
    };
    // A file has fewer rights than a folder.
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(KNOWN)
    };
    ruleset.add_rule(PathBeneath::new(place, access))
}
