// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files, TCP ports, and what other processes could be told (landlock).

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Needs;
use super::needs::ANYTHING;

/// The newest rights that are handled. What the running kernel does not know is left out.
const KNOWN: ABI = ABI::V6;
/// Everybody may look into a folder of devices; root makes them.
const OF_DEVICES: u32 = 0o755;

/// Takes all files from this thread but those that are needed.
///
/// # Errors
/// Why the kernel does not do it.
pub fn restrict(needs: &Needs) -> Result<String, String> {
    if needs.anything {
        return Err(ANYTHING.to_owned());
    }
    // Before files are taken: folders are made no more then.
    let missing: Vec<_> = needs.devices.iter().filter_map(|it| not_made(it)).collect();
    let status = rules(needs)
        .and_then(RulesetCreated::restrict_self)
        .map_err(|error| error.to_string())?;
    if status.ruleset != RulesetStatus::NotEnforced {
        missing.iter().for_each(|what| log::warn!("{what}"));
    }
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

/// What is to be said of a folder of devices that is not there and cannot be made.
fn not_made(folder: &Path) -> Option<String> {
    let error = make_folder(folder).err()?;
    Some(format!(
        "sandbox: {} is not there and cannot be made ({error}): a sound card that comes later cannot be \
         opened; load a sound driver first (modprobe snd-timer makes the folder), or start with \
         --no-sandbox=landlock",
        folder.display()
    ))
}

/// Makes a folder of devices if there is none: a rule is about a folder that exists, and the kernel
/// puts what comes later into the one that it finds. It removes no folder that it has not made.
fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(OF_DEVICES).create(folder) {
        Err(_) if folder.is_dir() => Ok(()),
        // The mask of this process is for its own files.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(OF_DEVICES)),
        failed => failed,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_devices_is_there_for_everybody_or_left_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("snd");
        let mode = || fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
        make_folder(&folder).unwrap();
        assert_eq!(mode(), OF_DEVICES);
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        make_folder(&folder).unwrap();
        assert_eq!(mode(), 0o700);
        let said = not_made(&folder.join("no").join("such")).unwrap();
        assert!(said.contains("--no-sandbox=landlock"), "{said}");
    }
}
