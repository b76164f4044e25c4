// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a device process has in flight, in a file that outlives it and this program (vhost-user,
//! "Inflight I/O tracking"): the next device process takes it up, whoever starts that.
//!
//! The file is kept by name in a folder that the system clears at boot. Where that cannot be, it is
//! kept for as long as this program runs, so that only the end of both is the end of it.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::geteuid;

use crate::command_socket::FOLDER;
use crate::driver::DeviceName;
use crate::shortage::is_shortage;

/// The most that a device process may want to have kept.
const LARGEST: u64 = 64 << 20;

/// A place in a file.
#[derive(Debug)]
pub struct Area {
    /// The file.
    pub file: File,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
}

impl Area {
    /// Whether the file has all of it.
    fn is_whole(&self) -> bool {
        let end = self.offset.checked_add(self.size);
        let size = self.file.metadata().ok().map(|stat| stat.len());
        end.zip(size).is_some_and(|(end, size)| end <= size)
    }
}

fn is_ours(stat: &Metadata) -> bool {
    stat.is_file() && stat.uid() == geteuid().as_raw()
}

/// The area of one kernel device.
#[derive(Debug)]
pub struct Inflight {
    path: PathBuf,
    kept: Option<Area>,
}

impl Inflight {
    /// The area of the device of this name.
    pub fn of(name: &DeviceName) -> Self {
        Self::in_folder(Path::new(FOLDER), name)
    }

    /// The same in another folder.
    pub fn in_folder(folder: &Path, name: &DeviceName) -> Self {
        Self {
            path: folder.join(format!("{name}.inflight")),
            kept: None,
        }
    }

    /// A start begins. `resume`: the queues have been in use before, so what was kept goes on; otherwise it
    /// is not to be taken up any more, whatever comes of this start.
    ///
    /// # Errors
    /// There is no descriptor to open it by, or no memory.
    pub fn begin(&mut self, resume: bool) -> io::Result<()> {
        if !resume {
            self.kept = None;
            if fs::symlink_metadata(&self.path).is_ok_and(|stat| is_ours(&stat)) {
                // Whoever has removed it before has done the same.
                let _ = fs::remove_file(&self.path);
            }
        } else if self.kept.is_none() {
            self.kept = self.find()?;
        }
        Ok(())
    }

    /// The area for a device process that has made `made` for it: what was kept, if it has the right size and the
    /// process before has not cut it short.
    pub fn choose(&mut self, made: Area) -> &Area {
        let goes_on = |area: &Area| area.size == made.size && area.is_whole();
        let area = match self.kept.take() {
            Some(area) if goes_on(&area) => area,
            known => {
                // First: it is not to be found later where a new one cannot be kept.
                self.kept = known;
                self.forget();
                self.keep(&made).unwrap_or_else(|error| {
                    let path = self.path.display();
                    log::info!("what is in flight will not outlive this program: {path}: {error}");
                    made
                })
            }
        };
        self.kept.insert(area)
    }

    /// The device is gone, and may have been another run's.
    pub fn remove(self) {
        // Nobody kept anything, or it is somebody else's. The next start finds that out by itself.
        let _ = fs::remove_file(self.path);
    }

    /// The device is gone: nothing is to be kept.
    pub fn forget(&mut self) {
        let ours = |area: &Area| Some((area.file.metadata().ok()?, fs::metadata(&self.path).ok()?));
        if let Some((kept, named)) = self.kept.as_ref().and_then(ours)
            && (kept.dev(), kept.ino()) == (named.dev(), named.ino())
        {
            // Whoever has removed it before has done the same.
            let _ = fs::remove_file(&self.path);
        }
        self.kept = None;
    }

    /// What another run has kept. A file that is somebody else's is not believed.
    fn find(&self) -> io::Result<Option<Area>> {
        let mut options = OpenOptions::new();
        // A lease or a pipe of somebody else's is not waited for.
        let options = options
            .read(true)
            .write(true)
            .custom_flags(O_NOFOLLOW | O_NONBLOCK);
        let file = match options.open(&self.path) {
            Err(error) if is_shortage(&error) => return Err(error),
            Err(_) => return Ok(None),
            Ok(file) => file,
        };
        let stat = file.metadata()?;
        Ok(is_ours(&stat).then_some(Area {
            file,
            offset: 0,
            size: stat.len(),
        }))
    }

    /// A new file with the contents of `made`, under the name that the next run looks for.
    fn keep(&self, made: &Area) -> io::Result<Area> {
        let size = usize::try_from(made.size.min(LARGEST + 1)).unwrap_or(usize::MAX);
        if made.size > LARGEST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut contents = vec![0; size];
        made.file.read_exact_at(&mut contents, made.offset)?;
        if let Some(folder) = self.path.parent().filter(|folder| !folder.exists()) {
            DirBuilder::new().mode(0o755).create(folder)?;
        }
        let new = self.path.with_extension("inflight.new");
        // One that is there was left by a run that was killed just here.
        let _ = fs::remove_file(&new);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).mode(0o600);
        let file = options.open(&new)?;
        let kept = file
            .write_all_at(&contents, 0)
            .and_then(|()| fs::rename(&new, &self.path));
        if kept.is_err() {
            let _ = fs::remove_file(&new);
        }
        kept.map(|()| Area {
            file,
            offset: 0,
            size: made.size,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn made(contents: &[u8]) -> Area {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(contents, 3).unwrap();
        Area {
            file,
            offset: 3,
            size: contents.len() as u64,
        }
    }

    fn contents(area: &Area) -> Vec<u8> {
        let mut bytes = vec![0; area.size as usize];
        area.file.read_exact_at(&mut bytes, area.offset).unwrap();
        bytes
    }

    /// What a start gets whose device process has made an area with these contents.
    fn start<'a>(inflight: &'a mut Inflight, contents: &[u8], resume: bool) -> &'a Area {
        inflight.begin(resume).unwrap();
        inflight.choose(made(contents))
    }

    fn inflight(folder: &Path) -> Inflight {
        Inflight::in_folder(folder, &"music".parse().unwrap())
    }

    #[test]
    fn an_area_outlives_the_device_process_and_the_adapter() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let mut first = inflight(&folder);
        let area = start(&mut first, b"fresh", false);
        assert_eq!(contents(area), b"fresh");
        let mode = fs::metadata(folder.join("music.inflight")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        area.file.write_all_at(b"state", 0).unwrap();
        assert_eq!(contents(start(&mut first, b"other", true)), b"state");
        drop(first);
        let mut second = inflight(&folder);
        assert_eq!(contents(start(&mut second, b"other", true)), b"state");
        // The driver has reset the device.
        assert_eq!(contents(start(&mut second, b"third", false)), b"third");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        second.forget();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn what_does_not_fit_or_is_no_file_of_ours_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("music.inflight");
        let other = folder.path().join("other");
        let anew = || contents(start(&mut inflight(folder.path()), b"fresh", true));
        fs::write(&path, b"longer").unwrap();
        assert_eq!(anew(), b"fresh");
        fs::remove_file(&path).unwrap();
        fs::write(&other, b"state").unwrap();
        symlink(&other, &path).unwrap();
        assert_eq!(anew(), b"fresh");
        assert_eq!(fs::read(&other).unwrap(), b"state");
    }

    #[test]
    fn what_a_device_process_has_cut_short_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut inflight = inflight(folder.path());
        start(&mut inflight, b"fresh", false)
            .file
            .set_len(2)
            .unwrap();
        assert_eq!(contents(start(&mut inflight, b"again", true)), b"again");
        assert_eq!(
            fs::read(folder.path().join("music.inflight")).unwrap(),
            b"again"
        );
    }

    #[test]
    fn without_a_folder_it_is_kept_as_long_as_this_program_runs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let mut inflight = inflight(&file);
        let area = start(&mut inflight, b"fresh", false);
        area.file.write_all_at(b"state", area.offset).unwrap();
        assert_eq!(contents(start(&mut inflight, b"other", true)), b"state");
        inflight.forget();
        assert_eq!(contents(start(&mut inflight, b"other", true)), b"other");
        let readable = fs::metadata(&file).unwrap().permissions().mode();
        assert_ne!(readable, 0, "what is in the way stays as it is");
    }

    #[test]
    fn what_is_outdated_is_removed_also_where_nothing_new_can_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("music.inflight");
        fs::write(&path, b"state").unwrap();
        // What is in the way stays.
        fs::create_dir_all(folder.path().join("music.inflight.new/x")).unwrap();
        let mut first = inflight(folder.path());
        assert_eq!(contents(start(&mut first, b"longer", true)), b"longer");
        assert!(!path.exists());

        fs::write(&path, b"state").unwrap();
        inflight(folder.path()).begin(false).unwrap();
        assert!(!path.exists());
        fs::write(&path, b"state").unwrap();
        inflight(folder.path()).remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_later_device_keeps_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut old = inflight(folder.path());
        start(&mut old, b"first", false);
        start(&mut inflight(folder.path()), b"later", false);
        old.forget();
        assert!(folder.path().join("music.inflight").exists());
    }
}
