// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Where the device process of a device can be asked how it is: its command socket.
//!
//! A convention between those who start device processes (`run`, systemd units) and `status`: a
//! socket NAME.commands in [`FOLDER`], or in the same folder of the user's runtime directory.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::driver::DeviceName;

/// Environment variable that tells a device process where to listen for commands.
pub const VARIABLE: &str = "VHOST_USER_COMMAND_SOCKET";
/// Where the command sockets are.
pub const FOLDER: &str = "/run/virtio-loopback";
/// The same for a user who may not write there, below the user's runtime directory.
const FOLDER_OF_USER: &str = "virtio-loopback";
/// Where the runtime directories of all users are.
const USERS: &str = "/run/user";

/// The socket for a device process that this process starts, its folder made where it is missing.
/// `None`: there is no folder in which this process may make one.
pub fn of_new_process(name: &DeviceName) -> Option<PathBuf> {
    let of_user =
        env::var_os("XDG_RUNTIME_DIR").map(|folder| Path::new(&folder).join(FOLDER_OF_USER));
    let folders = [
        Some((PathBuf::from(FOLDER), 0o755)),
        of_user.map(|folder| (folder, 0o700)),
    ];
    let folder = folders.into_iter().flatten().find_map(|(folder, mode)| {
        if fs::create_dir(&folder).is_ok() {
            // Where that fails the folder is as good without.
            let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(mode));
        }
        let usable = access(&folder, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
        usable.then_some(folder)
    });
    if folder.is_none() {
        log::debug!("no folder for a command socket: neither {FOLDER} nor $XDG_RUNTIME_DIR");
    }
    folder.map(|folder| folder.join(file_name(name.as_str())))
}

/// Where command sockets of `name` are below `root`: the system's first, then those of users, as far
/// as this process may look there.
pub fn all(root: &Path, name: &str) -> Vec<PathBuf> {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    let mut users: Vec<_> = fs::read_dir(below(USERS))
        .into_iter()
        .flatten()
        .flatten()
        .map(|user| user.path().join(FOLDER_OF_USER))
        .collect();
    users.sort();
    let own = env::var_os("XDG_RUNTIME_DIR").filter(|_| root == Path::new("/"));
    let own = own.map(|folder| Path::new(&folder).join(FOLDER_OF_USER));
    let folders = [below(FOLDER)].into_iter().chain(own).chain(users);
    folders
        .map(|folder| folder.join(file_name(name)))
        .filter(|path| path.exists())
        .collect()
}

fn file_name(name: &str) -> String {
    format!("{name}.commands")
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    #[test]
    fn the_systems_socket_comes_before_a_users() {
        let root = tempfile::tempdir().unwrap();
        assert!(all(root.path(), "music").is_empty());
        let make = |folder: &str| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("music.commands"), "").unwrap();
            folder.join("music.commands")
        };
        let of_user = make("run/user/1000/virtio-loopback");
        assert_eq!(all(root.path(), "music"), slice::from_ref(&of_user));
        let of_system = make("run/virtio-loopback");
        assert_eq!(all(root.path(), "music"), [of_system, of_user]);
        assert!(all(root.path(), "phone").is_empty());
    }
}
