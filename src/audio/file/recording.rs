// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a stream has played, on its way into WAV files; runs on the thread that writes files.
//!
//! A file holds exactly the frames that the driver sent: an underrun is silence for the listener of
//! a card, but adds nothing to the file. A stream that is prepared again goes on in the same file as
//! long as its format, rate and channels stay the same; otherwise the next file gets a number:
//! `out.wav`, `out-2.wav`, and so on; numbers that belong to other streams are left out. A file that
//! was deleted meanwhile is made anew. A stream that goes on where another process has died does so in
//! the next file that does not exist. The header is brought up to date after every second of sound
//! and at every stop, so that the file is readable even after the process has been killed.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

use rtrb::Consumer;

use super::super::HostError;
use super::super::wav::{self, Layout};
use super::failure;
use crate::description::numbered;
use crate::pcm_format;
use crate::stream::Params;

/// Frames that are written at once.
const CHUNK_FRAMES: usize = 8192;

/// Turns samples of `S24` (3 bytes in 4) into `S24_3`, in place; returns their new length.
fn pack_s24(samples: &mut [u8]) -> usize {
    let count = samples.len() / 4;
    for sample in 0..count {
        samples.copy_within(sample * 4..sample * 4 + 3, sample * 3);
    }
    count * 3
}

/// One file being written.
struct Output {
    file: File,
    path: PathBuf,
    layout: Layout,
    written: u64,
    written_at_header: u64,
}

impl Output {
    fn create(path: PathBuf, layout: Layout) -> Result<Self, HostError> {
        let file = File::create(&path).map_err(|source| failure(&path, source))?;
        let mut output = Self {
            file,
            path,
            layout,
            written: 0,
            written_at_header: 0,
        };
        match output.put_header() {
            Ok(()) => Ok(output),
            Err(source) => Err(failure(&output.path, source)),
        }
    }

    /// Whether somebody has removed the file: what is written to it would be lost.
    fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|stat| stat.nlink() == 0)
    }

    fn put_header(&mut self) -> io::Result<()> {
        self.written_at_header = self.written;
        match wav::header(self.layout, self.written) {
            Some(header) => self.file.write_all_at(&header, 0),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn put(&mut self, samples: &[u8]) -> io::Result<()> {
        self.file
            .write_all_at(samples, wav::HEADER_SIZE as u64 + self.written)?;
        self.written += samples.len() as u64;
        let second = u64::from(self.layout.rate) * u64::from(self.layout.frame_bytes());
        if self.written - self.written_at_header >= second {
            self.put_header()?;
        }
        Ok(())
    }
}

/// The files of one stream.
pub struct Recording {
    path: PathBuf,
    /// The files of other streams.
    taken: Vec<PathBuf>,
    /// Number of the file that is written; 0 before the first.
    number: u32,
    /// Files that are there were written by a process that has died.
    inherited: bool,
    output: Option<Output>,
    /// Where whole frames of the stream come from.
    samples: Option<Consumer<u8>>,
    frame_bytes: usize,
    pack: bool,
    chunk: Vec<u8>,
    faults: SyncSender<HostError>,
    /// A fault has been told, and nothing has been written since.
    failing: bool,
    /// Something has been written since the last fault.
    returned: Arc<AtomicBool>,
}

impl Recording {
    /// Files from `path` on; those in `taken` are never touched. What goes wrong while sound runs is
    /// told to `faults`, and its end to `returned`.
    pub fn new(
        path: &Path,
        taken: Vec<PathBuf>,
        faults: SyncSender<HostError>,
        returned: Arc<AtomicBool>,
    ) -> Self {
        Self {
            path: path.to_owned(),
            taken,
            number: 0,
            inherited: false,
            output: None,
            samples: None,
            frame_bytes: 1,
            pack: false,
            chunk: Vec::new(),
            faults,
            failing: false,
            returned,
        }
    }

    /// Goes on behind the files of a process that has died.
    pub fn inherit(&mut self) {
        self.inherited = true;
    }

    /// Whether more samples may come.
    pub fn is_open(&self) -> bool {
        self.samples.is_some()
    }

    /// Goes on with these parameters and this ring.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn open(&mut self, params: &Params, samples: Consumer<u8>) -> Result<(), HostError> {
        self.write();
        self.samples = None;
        self.pack = params.format == pcm_format::S24;
        let format = if self.pack {
            pcm_format::S24_3
        } else {
            params.format
        };
        self.frame_bytes = params.frame_bytes() as usize;
        self.chunk.resize(self.frame_bytes * CHUNK_FRAMES, 0);
        self.open_file(Layout {
            format,
            rate: params.rate,
            channels: params.channels,
        })?;
        self.samples = Some(samples);
        Ok(())
    }

    fn open_file(&mut self, layout: Layout) -> Result<(), HostError> {
        let path = match self.output.take() {
            Some(output) if !output.is_deleted() && output.layout == layout => {
                self.output = Some(output);
                return Ok(());
            }
            // A file without a frame can still take another layout.
            Some(output) if output.is_deleted() || output.written == 0 => output.path,
            _ => self.next_path(),
        };
        self.output = Some(Output::create(path, layout)?);
        Ok(())
    }

    /// The file of the next number that belongs to nobody else.
    fn next_path(&mut self) -> PathBuf {
        loop {
            self.number += 1;
            let path = numbered(&self.path, self.number);
            let left = self.inherited && path.exists();
            if !left && (self.number == 1 || !self.taken.contains(&path)) {
                return path;
            }
        }
    }

    /// Writes what has been played so far.
    pub fn write(&mut self) {
        let mut written = false;
        // Asked first: what is put in after this is seen in the next turn.
        let last = self.samples.as_ref().is_some_and(Consumer::is_abandoned);
        while let Some(length) = self.take_chunk() {
            let chunk = self.chunk.get(..length).unwrap_or(&[]);
            let result = self.output.as_mut().map(|output| output.put(chunk));
            written = !matches!(result, Some(Err(_)));
            if let Some(Err(error)) = result {
                self.complain(error);
            }
        }
        // All that there was: before, the disk may still be behind.
        if written {
            self.recover();
        }
        // The stream has gone, and all of it is written.
        if last {
            self.samples = None;
        }
    }

    /// Takes up to a chunk out of the ring, as it goes into the file; returns its bytes.
    fn take_chunk(&mut self) -> Option<usize> {
        let samples = self.samples.as_mut()?;
        let waiting = samples.slots();
        let full = waiting == samples.buffer().capacity();
        let part = samples.read_chunk(waiting.min(self.chunk.len())).ok()?;
        let length = part.len();
        if length == 0 {
            return None;
        }
        let (first, second) = part.as_slices();
        for (to, from) in self.chunk.iter_mut().zip(first.iter().chain(second)) {
            *to = *from;
        }
        part.commit_all();
        if full {
            // The stream has waited, and lost nothing.
            self.complain(io::ErrorKind::TimedOut.into());
        }
        if self.pack {
            return Some(pack_s24(self.chunk.get_mut(..length)?));
        }
        Some(length)
    }

    /// Writes all that has been played, and the file's header.
    pub fn settle(&mut self) {
        self.write();
        if let Some(Err(error)) = self.output.as_mut().map(Output::put_header) {
            self.complain(error);
        }
    }

    /// A fault is over.
    fn recover(&mut self) {
        if std::mem::take(&mut self.failing) {
            self.returned.store(true, Ordering::Release);
        }
    }

    /// Tells of a fault, once until it is over.
    fn complain(&mut self, source: io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let output = self.output.as_ref();
            let path = output.map_or(&self.path, |output| &output.path);
            self.returned.store(false, Ordering::Release);
            let _ = self.faults.try_send(failure(path, source));
        }
    }
}
