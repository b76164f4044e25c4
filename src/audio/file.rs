// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plays into WAV files and captures from one, paced by a clock.
//!
//! A file holds exactly the frames that the driver sent: an underrun is silence for the listener of
//! a card, but adds nothing to the file. A stream that is prepared again goes on in the same file as
//! long as its format, rate and channels stay the same; otherwise the next file gets a number:
//! `out.wav`, `out-2.wav`, and so on. A file that was deleted meanwhile is made anew. The header is brought up to date after every second of sound
//! and at every stop, so that the file is readable even after the process has been killed.
//!
//! The captured file starts over at every PREPARE and is followed by silence.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::HostError;
use super::clock::Medium;
use super::null::Silence;
use super::wav::{self, Layout};
use crate::description::numbered;
use crate::pcm_format::{self, Format};
use crate::stream::Params;
use crate::wire::{Direction, PcmInfo};

/// Frames that are written at once; a message that is longer takes several writes.
const CHUNK_FRAMES: u64 = 1024;

/// The formats that a WAV file can take.
pub const PLAYBACK_FORMATS: [Format; 6] = [
    pcm_format::U8,
    pcm_format::S16,
    pcm_format::S24_3,
    pcm_format::S24,
    pcm_format::S32,
    pcm_format::FLOAT,
];

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
        let fail = |source| HostError::File {
            path: path.display().to_string(),
            source,
        };
        let file = File::create(&path).map_err(fail)?;
        let mut output = Self {
            file,
            path,
            layout,
            written: 0,
            written_at_header: 0,
        };
        output.put_header().map_err(|source| output.error(source))?;
        Ok(output)
    }

    fn error(&self, source: std::io::Error) -> HostError {
        HostError::File {
            path: self.path.display().to_string(),
            source,
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

/// The playback stream.
struct Player {
    path: PathBuf,
    files: u32,
    output: Option<Output>,
    frame_bytes: usize,
    pack: bool,
    chunk: Vec<u8>,
}

impl Player {
    fn prepare(&mut self, params: &Params) -> Result<(), HostError> {
        self.pack = params.format == pcm_format::S24;
        let format = if self.pack {
            pcm_format::S24_3
        } else {
            params.format
        };
        let layout = Layout {
            format,
            rate: params.rate,
            channels: params.channels,
        };
        self.frame_bytes = params.frame_bytes() as usize;
        self.chunk
            .resize(self.frame_bytes * CHUNK_FRAMES as usize, 0);
        let known = self.output.take();
        match known {
            Some(output) if output.is_deleted() => {}
            Some(output) if output.layout == layout => {
                self.output = Some(output);
                return Ok(());
            }
            // A file without a frame can still take another layout.
            Some(output) if output.written == 0 => {}
            _ => self.files += 1,
        }
        self.output = Some(Output::create(numbered(&self.path, self.files), layout)?);
        Ok(())
    }

    fn write(
        &mut self,
        mut frames: u64,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), std::io::Error> {
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
        result
    }
}

/// The capture stream.
struct Recorder {
    samples: Vec<u8>,
    at: usize,
    frame_bytes: usize,
    silence: Silence,
}

impl Recorder {
    fn prepare(&mut self, params: &Params) {
        self.at = 0;
        self.frame_bytes = params.frame_bytes() as usize;
        self.silence = Silence::new(params);
    }

    fn read(&mut self, frames: u64, drain: &mut dyn FnMut(&[u8])) {
        let wanted = usize::try_from(frames)
            .unwrap_or(usize::MAX)
            .saturating_mul(self.frame_bytes);
        let left = self.samples.get(self.at..).unwrap_or(&[]);
        let found = left.get(..wanted.min(left.len())).unwrap_or(&[]);
        drain(found);
        self.at += found.len();
        self.silence.give(
            frames - (found.len() / self.frame_bytes.max(1)) as u64,
            drain,
        );
    }
}

/// The medium of `--host file`.
pub struct Files {
    streams: Vec<PcmInfo>,
    player: Option<Player>,
    recorder: Option<Recorder>,
    faults: [Option<HostError>; 2],
}

impl Files {
    /// A medium that plays into `playback` and captures from `capture`. `offered` is what the
    /// playback stream is to offer; the capture stream offers what its file is.
    ///
    /// # Errors
    /// The file that is to be written cannot be opened; the file that is to be captured cannot be
    /// read, or is no WAV file of a supported format.
    pub fn new(
        playback: Option<&Path>,
        capture: Option<&Path>,
        offered: PcmInfo,
    ) -> Result<Self, HostError> {
        let mut streams = Vec::new();
        if let Some(path) = playback {
            // Opened to find out now; emptied when there is something to write.
            let file = File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path);
            file.map_err(|source| HostError::File {
                path: path.display().to_string(),
                source,
            })?;
        }
        let player = playback.map(|path| Player {
            path: path.to_owned(),
            files: 0,
            output: None,
            frame_bytes: 1,
            pack: false,
            chunk: Vec::new(),
        });
        streams.extend(player.as_ref().map(|_| offered));
        let mut recorder = None;
        if let Some(path) = capture {
            let (layout, samples) = load(path)?;
            streams.push(PcmInfo {
                device: 0,
                formats: layout.format.bit(),
                rates: pcm_format::rate_bit(layout.rate),
                direction: Direction::Capture,
                channels_min: layout.channels,
                channels_max: layout.channels,
            });
            let silence = Silence::default();
            recorder = Some(Recorder {
                samples,
                at: 0,
                frame_bytes: 1,
                silence,
            });
        }
        Ok(Self {
            streams,
            player,
            recorder,
            faults: [None, None],
        })
    }

    fn direction(&self, stream: usize) -> Option<Direction> {
        self.streams.get(stream).map(|info| info.direction)
    }

    fn keep_fault(&mut self, stream: usize, error: std::io::Error) {
        let path = self.player.as_ref().map_or_else(String::new, |player| {
            player
                .output
                .as_ref()
                .map_or(&player.path, |output| &output.path)
                .display()
                .to_string()
        });
        if let Some(fault) = self.faults.get_mut(stream) {
            *fault = Some(HostError::File {
                path,
                source: error,
            });
        }
    }
}

fn load(path: &Path) -> Result<(Layout, Vec<u8>), HostError> {
    let name = || path.display().to_string();
    let file = std::fs::read(path).map_err(|source| HostError::File {
        path: name(),
        source,
    })?;
    let (layout, samples) = wav::parse(&file).map_err(|reason| HostError::Wav {
        path: name(),
        reason,
    })?;
    Ok((layout, samples.to_vec()))
}

impl Medium for Files {
    fn streams(&self) -> &[PcmInfo] {
        &self.streams
    }

    fn prepare(&mut self, stream: usize, params: &Params) -> Result<(), HostError> {
        match (self.direction(stream), &mut self.player, &mut self.recorder) {
            (Some(Direction::Playback), Some(player), _) => player.prepare(params)?,
            (Some(Direction::Capture), _, Some(recorder)) => recorder.prepare(params),
            _ => {}
        }
        Ok(())
    }

    fn settle(&mut self, stream: usize) {
        if self.direction(stream) != Some(Direction::Playback) {
            return;
        }
        let output = self
            .player
            .as_mut()
            .and_then(|player| player.output.as_mut());
        if let Some(Err(error)) = output.map(Output::put_header) {
            self.keep_fault(stream, error);
        }
    }

    fn release(&mut self, stream: usize) {
        self.settle(stream);
    }

    fn write(&mut self, stream: usize, frames: u64, fill: &mut dyn FnMut(&mut [u8])) {
        let result = self
            .player
            .as_mut()
            .map(|player| player.write(frames, fill));
        if let Some(Err(error)) = result {
            self.keep_fault(stream, error);
        }
    }

    fn read(&mut self, _stream: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) {
        if let Some(recorder) = &mut self.recorder {
            recorder.read(frames, drain);
        }
    }

    fn starve(&mut self, _stream: usize, _frames: u64) {}

    fn fault(&mut self, stream: usize) -> Option<HostError> {
        self.faults.get_mut(stream).and_then(Option::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm_format::{FLOAT, S16, S24, S24_3, S32, U8};

    const OFFERED: PcmInfo = PcmInfo {
        device: 0,
        formats: u64::MAX,
        rates: u64::MAX,
        direction: Direction::Playback,
        channels_min: 1,
        channels_max: 8,
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
        }
    }

    fn player(path: &Path) -> Files {
        Files::new(Some(path), None, OFFERED).unwrap()
    }

    fn play(files: &mut Files, frames: u64, samples: &[u8]) {
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
        for format in [U8, S16, S24_3, S32, FLOAT] {
            for channels in [1, 2, 6, 8] {
                let path = folder.path().join("x.wav");
                let mut files = player(&path);
                let params = params(format, channels);
                files.prepare(0, &params).unwrap();
                let sound = samples(3000 * params.frame_bytes() as usize);
                play(&mut files, 3000, &sound);
                files.settle(0);
                let (layout, data) = load(&path).unwrap();
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
        assert_eq!(load(&path).unwrap().1, [1, 2, 3, 4, 5, 6]);
        assert_eq!(
            load(&folder.path().join("out-2.wav")).unwrap().1,
            [7, 8, 9, 10]
        );
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
            assert_eq!(load(&path).unwrap().1, [sample]);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_file_is_readable_while_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        let mut files = player(&path);
        files.prepare(0, &params(U8, 1)).unwrap();
        assert_eq!(load(&path).unwrap().1, []);
        // A second and a half of sound; the header is written after the first.
        play(&mut files, 48_128, &samples(48_128));
        play(&mut files, 24_000, &samples(24_000));
        assert_eq!(load(&path).unwrap().1.len(), 48_128);
    }

    #[test]
    fn a_captured_file_starts_over_at_prepare_and_ends_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.wav");
        let layout = Layout {
            format: U8,
            rate: 48_000,
            channels: 2,
        };
        let mut file = wav::header(layout, 6).unwrap().to_vec();
        file.extend([1, 2, 3, 4, 5, 6]);
        std::fs::write(&path, &file).unwrap();
        let mut files = Files::new(None, Some(&path), OFFERED).unwrap();
        let info = files.streams()[0];
        assert_eq!(
            (info.formats, info.direction),
            (U8.bit(), Direction::Capture)
        );
        assert_eq!((info.channels_min, info.channels_max), (2, 2));
        for _ in 0..2 {
            files.prepare(0, &params(U8, 2)).unwrap();
            let mut heard = Vec::new();
            files.read(0, 2, &mut |part| heard.extend_from_slice(part));
            files.read(0, 3, &mut |part| heard.extend_from_slice(part));
            assert_eq!(heard, [1, 2, 3, 4, 5, 6, 128, 128, 128, 128]);
        }
    }

    #[test]
    fn a_full_disk_is_reported_and_stops_nothing() {
        let mut files = player(Path::new("/dev/full"));
        assert!(files.prepare(0, &params(U8, 1)).is_err());
        play(&mut files, 2, &[1, 2]);
        assert!(Files::new(None, Some(Path::new("/nonexistent.wav")), OFFERED).is_err());
        assert!(Files::new(None, Some(Path::new("/dev/null")), OFFERED).is_err());
    }
}
