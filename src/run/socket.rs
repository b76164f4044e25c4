// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sockets that others connect to, and their files.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};

use super::RunError;
use crate::unix_socket::connect_at_once;

/// The socket's file, removed at the end.
pub struct SocketFile(PathBuf);

impl SocketFile {
    /// Another process removes it.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            log::warn!("{}: {error}", self.0.display());
        }
    }
}

/// Whether a socket is there that nobody serves. Who has a full queue is not waited for.
fn is_left_behind(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && connect_at_once(path).is_err_and(refused)
}

/// Removes the socket of a process that could not do so.
pub fn clear(path: &Path) {
    if is_left_behind(path) {
        drop(SocketFile(path.to_owned()));
    }
}

/// Binds the socket. One that a dead process left behind is replaced; one that is served is not.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if !is_left_behind(path) {
                return Err(error);
            }
            fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        result => result,
    }
}

/// Listens on `path`.
///
/// # Errors
/// Nobody can listen there.
pub fn listen(path: &Path) -> Result<(UnixListener, SocketFile), RunError> {
    let fail = |source: io::Error| {
        let hint = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "; another device listens there, or it is no socket: choose another path"
            }
            io::ErrorKind::NotFound => "; create the folder first",
            io::ErrorKind::PermissionDenied => "; this user may not create files there",
            io::ErrorKind::StorageFull => "; make room in the folder's file system",
            _ => "",
        };
        RunError::Listen {
            path: path.to_owned(),
            source,
            hint,
        }
    };
    let listener = bind(path).map_err(fail)?;
    Ok((listener, SocketFile(path.to_owned())))
}

/// Listens on `path` for this user alone. Not for a process that has threads: the mask of rights for
/// new files, which is that of all of them, changes for a moment.
///
/// # Errors
/// Nobody can listen there.
pub fn private(path: &Path) -> Result<(UnixListener, SocketFile), RunError> {
    let before = umask(Mode::S_IXUSR | Mode::S_IRWXG | Mode::S_IRWXO);
    let listening = listen(path);
    umask(before);
    listening
}
