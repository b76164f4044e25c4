// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A stream that is written to WAV files: its samples go into a ring, from which the thread that
//! writes files takes them. Where the disk does not keep up for long, the stream waits, alone.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use nix::unistd::{AccessFlags, access};
use rtrb::{Producer, RingBuffer};

use super::super::HostError;
use super::super::clock::Medium;
use super::super::sample_ring;
use super::disk::{Disk, Order};
use super::failure;
use super::recording::Recording;
use crate::stream::Params;
use crate::wire::PcmInfo;

/// Room in the ring in seconds of sound, and its bounds in bytes: how long a disk may take a rest.
const RING_SECONDS: usize = 4;
const LEAST_RING: usize = 1 << 16;
const MOST_RING: usize = 1 << 24;

/// Whether the file can be written, without making it.
fn check_writable(path: &Path) -> io::Result<()> {
    let found = path.metadata().map(|found| found.file_type());
    if found.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) {
        return Err(io::Error::other("a WAV file cannot be a pipe or a socket"));
    }
    match File::options().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
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
    disk: Arc<Disk>,
    /// Which of the thread's recordings this is.
    place: usize,
    samples: Option<Producer<u8>>,
    /// The disk had not opened the file when it was waited for.
    late: bool,
    frame_bytes: usize,
    faults: Receiver<HostError>,
    /// A fault has been told, and its end has not.
    away: bool,
    /// The fault is over.
    returned: Arc<AtomicBool>,
}

impl Player {
    /// A stream that offers `offered` and is written to `path`, as recording number `place` of
    /// `disk`: they are counted from 0. Files in `taken` are never touched.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(
        path: &Path,
        taken: Vec<PathBuf>,
        offered: PcmInfo,
        (disk, place): (Arc<Disk>, usize),
    ) -> Result<Self, HostError> {
        check_writable(path).map_err(|source| failure(path, source))?;
        let (faults, told) = sync_channel(1);
        let returned = Arc::new(AtomicBool::new(false));
        let recording = Recording::new(path, taken, faults, Arc::clone(&returned));
        disk.order(Order::Add(Box::new(recording)));
        Ok(Self {
            streams: [offered],
            path: path.to_owned(),
            disk,
            place,
            samples: None,
            late: false,
            frame_bytes: 1,
            faults: told,
            away: false,
            returned,
        })
    }
}

impl Medium for Player {
    fn streams(&self) -> &[PcmInfo] {
        &self.streams
    }

    fn inherit(&mut self, _stream: usize, _frames: u64) {
        self.disk.order(Order::Inherit(self.place));
    }

    fn prepare(&mut self, _stream: usize, params: &Params) -> Result<(), HostError> {
        self.frame_bytes = params.frame_bytes() as usize;
        let room = sample_ring::room(
            self.frame_bytes,
            params.rate,
            RING_SECONDS,
            LEAST_RING,
            MOST_RING,
        );
        let (producer, consumer) = RingBuffer::new(room);
        self.samples = None;
        let place = self.place;
        let opened = self
            .disk
            .ask(|answer| Order::Open(place, *params, consumer, answer));
        self.late = opened.is_none();
        if !matches!(opened, Some(Err(_))) {
            // A disk that takes longer opens it all the same.
            self.samples = Some(producer);
        }
        let late = || Err(failure(&self.path, io::ErrorKind::TimedOut.into()));
        opened.unwrap_or_else(late)
    }

    fn settle(&mut self, _stream: usize) {
        if self.samples.is_some() && !self.late {
            // A disk that takes longer goes on by itself.
            let _ = self.disk.ask(|answer| Order::Settle(self.place, answer));
        }
    }

    fn release(&mut self, stream: usize) {
        self.settle(stream);
        self.samples = None;
    }

    fn write(&mut self, _stream: usize, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        let samples = self.samples.as_mut();
        let Some(samples) = samples.filter(|samples| !samples.is_abandoned()) else {
            return frames;
        };
        sample_ring::put(samples, self.frame_bytes, frames, fill)
    }

    fn read(&mut self, _stream: usize, _frames: u64, _drain: &mut dyn FnMut(&[u8])) {}

    fn fault(&mut self, _stream: usize) -> Option<HostError> {
        let fault = self.faults.try_recv().ok();
        self.away |= fault.is_some();
        fault
    }

    fn returned(&mut self, _stream: usize) -> bool {
        // A fault that has not been fetched yet is told first.
        let returned = self.away && self.returned.swap(false, Ordering::AcqRel);
        self.away &= !returned;
        returned
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::wav::{self, Layout};
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
        Player::new(path, Vec::new(), OFFERED, (Disk::start().unwrap(), 0)).unwrap()
    }

    /// What a file holds.
    fn load(path: &Path) -> (Layout, Vec<u8>) {
        let file = std::fs::read(path).unwrap();
        let (layout, samples) = wav::parse(&file).unwrap();
        (layout, samples.to_vec())
    }

    fn play(files: &mut Player, frames: u64, samples: &[u8]) {
        let mut at = 0;
        let taken = files.write(0, frames, &mut |room| {
            room.copy_from_slice(&samples[at..at + room.len()]);
            at += room.len();
        });
        assert_eq!(taken, frames);
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
        assert!(load(&path).1.is_empty());
        // The header is written after a second of sound, without any stop.
        let sound = samples(72_128);
        play(&mut files, 48_128, &sound[..48_128]);
        let start = std::time::Instant::now();
        while load(&path).1.is_empty() {
            assert!(
                start.elapsed().as_secs() < 30,
                "the header is never written"
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        play(&mut files, 24_000, &sound[48_128..]);
        assert!(sound.starts_with(&load(&path).1));
        files.settle(0);
        assert!(load(&path).1 == sound);
    }

    #[test]
    fn what_was_played_is_in_the_file_when_the_stream_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        let mut files = player(&path);
        let sound = samples(100_000);
        files.prepare(0, &params(U8, 1)).unwrap();
        play(&mut files, 60_000, &sound[..60_000]);
        // Without a stop, the ring of the first PREPARE is still full.
        files.prepare(0, &params(U8, 1)).unwrap();
        play(&mut files, 40_000, &sound[60_000..]);
        drop(files);
        assert!(load(&path).1 == sound);
    }

    #[test]
    fn a_stream_waits_for_its_disk_and_loses_nothing() {
        let (disk, orders) = Disk::played_by_test();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        let mut files = Player::new(&path, Vec::new(), OFFERED, (disk, 0)).unwrap();
        let disk = std::thread::spawn(move || {
            let Ok(Order::Add(_)) = orders.recv() else {
                panic!("no recording");
            };
            let Ok(Order::Open(0, _, samples, answer)) = orders.recv() else {
                panic!("no ring");
            };
            answer.send(Ok(())).unwrap();
            samples
        });
        files.prepare(0, &params(S16, 2)).unwrap();
        let mut ring = disk.join().unwrap();
        let room = 4 * 48_000;
        let mut next = 0u32;
        let mut count = |room: &mut [u8]| {
            for frame in room.chunks_mut(4) {
                frame.copy_from_slice(&next.to_le_bytes());
                next += 1;
            }
        };
        assert_eq!(files.write(0, room - 10, &mut count), room - 10);
        assert_eq!(files.write(0, 100, &mut count), 10);
        assert_eq!(files.write(0, 100, &mut count), 0);
        ring.read_chunk(4 * 30).unwrap().commit_all();
        assert_eq!(files.write(0, 100, &mut count), 30);
        let rest = ring.read_chunk(4 * room as usize).unwrap();
        let (first, second) = rest.as_slices();
        let frames = first.chunks(4).chain(second.chunks(4));
        let expected = (30..30 + room as u32).map(u32::to_le_bytes);
        assert!(frames.eq(expected));
    }

    #[test]
    fn a_disk_that_keeps_up_again_is_back() {
        let (disk, orders) = Disk::played_by_test();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        let mut files = Player::new(&path, Vec::new(), OFFERED, (disk, 0)).unwrap();
        let disk = std::thread::spawn(move || {
            let Ok(Order::Add(mut recording)) = orders.recv() else {
                panic!("no recording");
            };
            let Ok(Order::Open(0, params, samples, answer)) = orders.recv() else {
                panic!("no ring");
            };
            answer.send(recording.open(&params, samples)).unwrap();
            recording
        });
        files.prepare(0, &params(U8, 1)).unwrap();
        let mut recording = disk.join().unwrap();
        recording.write();
        assert!(files.fault(0).is_none() && !files.returned(0));
        let room = 4 * 48_000;
        assert_eq!(files.write(0, room + 1, &mut |_| ()), room);
        recording.write();
        // The fault is told before its end, in whatever order they are asked for.
        assert!(!files.returned(0));
        assert!(files.fault(0).is_some());
        play(&mut files, 1, &[1]);
        recording.write();
        assert!(files.returned(0));
        assert!(files.fault(0).is_none() && !files.returned(0));
    }

    #[test]
    fn a_disk_that_does_not_answer_is_an_error_of_its_stream() {
        let (disk, orders) = Disk::played_by_test();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.wav");
        let mut files = Player::new(&path, Vec::new(), OFFERED, (disk, 0)).unwrap();
        let error = files.prepare(0, &params(U8, 1)).unwrap_err().to_string();
        assert!(error.contains("out.wav: timed out"), "{error}");
        // What is played all the same is there for a disk that is only late,
        let (Ok(Order::Add(_)), Ok(Order::Open(0, _, mut samples, _))) =
            (orders.recv(), orders.recv())
        else {
            panic!("no ring");
        };
        play(&mut files, 3, &[1, 2, 3]);
        assert_eq!(samples.read_chunk(3).unwrap().as_slices().0, [1, 2, 3]);
        // and nobody waits for one that has failed.
        drop(samples);
        let more = 2 * 4 * 48_000;
        assert_eq!(files.write(0, more, &mut |_| ()), more);
    }

    #[test]
    fn a_pipe_is_no_wav_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe.wav");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let disk = (Disk::start().unwrap(), 0);
        let error = Player::new(&path, Vec::new(), OFFERED, disk).err().unwrap();
        assert!(error.to_string().contains("pipe"));
    }

    #[test]
    fn a_full_disk_is_reported_and_stops_nothing() {
        let mut files = player(Path::new("/dev/full"));
        assert!(files.prepare(0, &params(U8, 1)).is_err());
        assert_eq!(files.write(0, 2, &mut |_| ()), 2);
    }

    #[test]
    fn files_of_other_streams_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second, third] =
            ["out.wav", "out-2.wav", "out-3.wav"].map(|name| folder.path().join(name));
        std::fs::write(&second, "precious").unwrap();
        let mut files = Player::new(
            &first,
            vec![first.clone(), second.clone()],
            OFFERED,
            (Disk::start().unwrap(), 0),
        )
        .unwrap();
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
            let disk = (Disk::start().unwrap(), 0);
            assert!(Player::new(&wrong, Vec::new(), OFFERED, disk).is_err());
        }
    }
}
