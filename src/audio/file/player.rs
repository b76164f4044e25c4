// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A stream that is written to WAV files.
//!
//! A file holds exactly the frames that the driver sent: an underrun is silence for the listener of
//! a card, but adds nothing to the file. A stream that is prepared again goes on in the same file as
//! long as its format, rate and channels stay the same; otherwise the next file gets a number:
//! `out.wav`, `out-2.wav`, and so on; numbers that belong to other streams are left out. A file that
//! was deleted meanwhile is made anew. The header is brought up to date after every second of sound
//! and at every stop, so that the file is readable even after the process has been killed.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::super::HostError;
use super::super::clock::Medium;
use super::super::wav::{self, Layout};
use super::failure;
use crate::description::numbered;
use crate::pcm_format;
use crate::stream::Params;
use crate::wire::PcmInfo;

/// Frames that are written at once; a message that is longer takes several writes.
const CHUNK_FRAMES: u64 = 1024;

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

    fn put_header(&mut self) -> std::io::Result<()> {
        self.written_at_header = self.written;
        match wav::header(self.layout, self.written) {
            Some(header) => self.file.write_all_at(&header, 0),
            None => Err(std::io::ErrorKind::Unsupported.into()),
        }
    }

    fn put(&mut self, samples: &[u8]) -> std::io::Result<()> {
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

/// Whether the file can be written, without making it.
fn check_writable(path: &Path) -> std::io::Result<()> {
    match File::options().write(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            let allowed = AccessFlags::W_OK | AccessFlags::X_OK;
            Ok(access(folder.unwrap_or(Path::new(".")), allowed)?)
        }
        opened => opened.map(drop),
    }
}

/// The medium of a playback stream of `--host file`.
pub struct Player {
    streams: [PcmInfo; 1],
    path: PathBuf,
    /// The files of other streams.
    taken: Vec<PathBuf>,
    /// Number of the file that is written; 0 before the first.
    number: u32,
    output: Option<Output>,
    frame_bytes: usize,
    pack: bool,
    chunk: Vec<u8>,
    fault: Option<HostError>,
}

impl Player {
    /// A stream that offers `offered` and is written to `path`. Files in `taken` are never touched.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(path: &Path, taken: Vec<PathBuf>, offered: PcmInfo) -> Result<Self, HostError> {
        check_writable(path).map_err(|source| failure(path, source))?;
        Ok(Self {
            streams: [offered],
            path: path.to_owned(),
            taken,
            number: 0,
            output: None,
            frame_bytes: 1,
            pack: false,
            chunk: Vec::new(),
            fault: None,
        })
    }

    /// The file of the next number that belongs to nobody else.
    fn next_path(&mut self) -> PathBuf {
        loop {
            self.number += 1;
            let path = numbered(&self.path, self.number);
            if self.number == 1 || !self.taken.contains(&path) {
                return path;
            }
        }
    }

    fn open(&mut self, layout: Layout) -> Result<(), HostError> {
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

    fn keep_fault(&mut self, source: std::io::Error) {
        let output = self.output.as_ref();
        let path = output.map_or(&self.path, |output| &output.path);
        self.fault = Some(failure(path, source));
    }
}

impl Medium for Player {
    fn streams(&self) -> &[PcmInfo] {
        &self.streams
    }

    fn prepare(&mut self, _stream: usize, params: &Params) -> Result<(), HostError> {
        self.pack = params.format == pcm_format::S24;
        let format = if self.pack {
            pcm_format::S24_3
        } else {
            params.format
        };
        self.frame_bytes = params.frame_bytes() as usize;
        self.chunk
            .resize(self.frame_bytes * CHUNK_FRAMES as usize, 0);
        self.open(Layout {
            format,
            rate: params.rate,
            channels: params.channels,
        })
    }

    fn settle(&mut self, _stream: usize) {
        if let Some(Err(error)) = self.output.as_mut().map(Output::put_header) {
            self.keep_fault(error);
        }
    }

    fn release(&mut self, stream: usize) {
        self.settle(stream);
    }

    fn write(&mut self, _stream: usize, mut frames: u64, fill: &mut dyn FnMut(&mut [u8])) {
        let mut result = Ok(());
        while frames > 0 {
            let step = frames.min(CHUNK_FRAMES);
            let chunk = self
                .chunk
                .get_mut(..step as usize * self.frame_bytes)
                .unwrap_or(&mut []);
            fill(chunk);
            let length = if self.pack {
                pack_s24(chunk)
            } else {
                chunk.len()
            };
            if let (Some(output), Ok(())) = (&mut self.output, &result) {
                result = output.put(chunk.get(..length).unwrap_or(&[]));
            }
            frames -= step;
        }
        if let Err(error) = result {
            self.keep_fault(error);
        }
    }

    fn read(&mut self, _stream: usize, _frames: u64, _drain: &mut dyn FnMut(&[u8])) {}

    fn starve(&mut self, _stream: usize, _frames: u64) {}

    fn fault(&mut self, _stream: usize) -> Option<HostError> {
        self.fault.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm_format::Format;
    use crate::pcm_format::{A_LAW, FLOAT, FLOAT64, MU_LAW, S16, S24, S24_3, S32, U8};
    use crate::wire::Direction;

    const OFFERED: PcmInfo = PcmInfo {
        device: 0,
        formats: u64::MAX,
        rates: u64::MAX,
        direction: Direction::Playback,
        channels_min: 1,
        channels_max: 8,
        features: 0,
    };

    fn params(format: Format, channels: u8) -> Params {
        let frame_bytes = u32::from(format.bytes) * u32::from(channels);
        let (buffer_bytes, period_bytes) = (400 * frame_bytes, 100 * frame_bytes);
        Params {
            format,
            rate: 48_000,
            channels,
            buffer_bytes,
            period_bytes,
            features: 0,
        }
    }

    fn player(path: &Path) -> Player {
        Player::new(path, Vec::new(), OFFERED).unwrap()
    }

    /// What a file holds.
    fn load(path: &Path) -> (Layout, Vec<u8>) {
        let file = std::fs::read(path).unwrap();
        let (layout, samples) = wav::parse(&file).unwrap();
        (layout, samples.to_vec())
    }

    fn play(files: &mut Player, frames: u64, samples: &[u8]) {
        let mut at = 0;
        files.write(0, frames, &mut |room| {
            room.copy_from_slice(&samples[at..at + room.len()]);
            at += room.len();
        });
        assert_eq!(at, samples.len());
    }

    fn samples(length: usize) -> Vec<u8> {
        (0..length)
            .map(|byte| (byte * 7 + byte / 251) as u8)
            .collect()
    }

    #[test]
    fn every_format_is_written_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for format in [MU_LAW, A_LAW, U8, S16, S24_3, S32, FLOAT, FLOAT64] {
            for channels in [1, 2, 6, 8] {
                let path = folder.path().join("x.wav");
                let mut files = player(&path);
                let params = params(format, channels);
                files.prepare(0, &params).unwrap();
                let sound = samples(3000 * params.frame_bytes() as usize);
                play(&mut files, 3000, &sound);
                files.settle(0);
                let (layout, data) = load(&path);
                assert_eq!(
                    (layout.format, layout.channels, data),
                    (format, channels, sound)
                );
            }
        }
    }

    #[test]
    fn the_low_24_bits_of_32_are_written_as_24() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wav");
        let mut files = player(&path);
        files.prepare(0, &params(S24, 1)).unwrap();
        play(&mut files, 2, &[1, 2, 3, 0, 4, 5, 0x86, 0xff]);
        files.settle(0);
        let mut reader = hound::WavReader::open(&path).unwrap();
        assert_eq!(reader.spec().bits_per_sample, 24);
        let read: Vec<i32> = reader.samples().map(Result::unwrap).collect();
        assert_eq!(read, [0x03_0201, 0x86_0504 - 0x100_0000]);
    }

    #[test]
    fn equal_parameters_go_on_in_the_file_and_others_start_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        let mut files = player(&path);
        // Nothing is written between these two: the file takes the second layout.
        files.prepare(0, &params(U8, 1)).unwrap();
        files.prepare(0, &params(S16, 1)).unwrap();
        play(&mut files, 2, &[1, 2, 3, 4]);
        files.release(0);
        files.prepare(0, &params(S16, 1)).unwrap();
        play(&mut files, 1, &[5, 6]);
        files.release(0);
        files.prepare(0, &params(S16, 2)).unwrap();
        play(&mut files, 1, &[7, 8, 9, 10]);
        files.release(0);
        assert_eq!(load(&path).1, [1, 2, 3, 4, 5, 6]);
        assert_eq!(load(&folder.path().join("out-2.wav")).1, [7, 8, 9, 10]);
        assert!(!folder.path().join("out-3.wav").exists());
    }

    #[test]
    fn a_deleted_file_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        let mut files = player(&path);
        for sample in [1, 2] {
            files.prepare(0, &params(U8, 1)).unwrap();
            play(&mut files, 1, &[sample]);
            files.release(0);
            assert_eq!(load(&path).1, [sample]);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_file_is_readable_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        let mut files = player(&path);
        files.prepare(0, &params(U8, 1)).unwrap();
        assert_eq!(load(&path).1, []);
        // A second and a half of sound; the header is written after the first.
        play(&mut files, 48_128, &samples(48_128));
        play(&mut files, 24_000, &samples(24_000));
        assert_eq!(load(&path).1.len(), 48_128);
    }

    #[test]
    fn a_full_disk_is_reported_and_stops_nothing() {
        let mut files = player(Path::new("/dev/full"));
        assert!(files.prepare(0, &params(U8, 1)).is_err());
        play(&mut files, 2, &[1, 2]);
    }

    #[test]
    fn files_of_other_streams_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second, third] =
            ["out.wav", "out-2.wav", "out-3.wav"].map(|name| folder.path().join(name));
        std::fs::write(&second, "precious").unwrap();
        let mut files = Player::new(&first, vec![first.clone(), second.clone()], OFFERED).unwrap();
        for channels in [1, 2] {
            files.prepare(0, &params(U8, channels)).unwrap();
            play(&mut files, 1, &samples(channels.into()));
            files.release(0);
        }
        assert_eq!((load(&first).1.len(), load(&third).1.len()), (1, 2));
        assert_eq!(std::fs::read(second).unwrap(), b"precious");
    }

    #[test]
    fn what_cannot_be_written_is_found_out_at_once_and_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        player(&path);
        assert!(!path.exists());
        for wrong in [folder.path().join("nowhere/out.wav"), folder.path().into()] {
            assert!(Player::new(&wrong, Vec::new(), OFFERED).is_err());
        }
    }
}
