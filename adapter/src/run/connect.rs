// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Finding the device process at its socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::RunError;
use crate::device_process::DeviceProcess;
use crate::news::News;
use crate::shortage::is_shortage;
use crate::signals::Signals;
use crate::unix_socket::connect_at_once;

/// First and longest wait between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(2));
/// The first one for a device process that is to listen: sound waits for it.
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// A device process that served for this long is not one that fails at every start.
const STEADY: Duration = Duration::from_secs(1);

/// Waits that double up to a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackOff {
    next: Duration,
}

/// When a device process that has gone is replaced: at once, for sound waits for it; but one that
/// goes again and again is not replaced faster and faster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restarts {
    count: u32,
    back_off: BackOff,
}

impl Restarts {
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            back_off: BackOff::new(),
        }
    }

    /// How long to wait now that one has gone that served for `served`.
    pub(super) fn next(&mut self, served: Duration) -> Duration {
        if served > STEADY {
            *self = Self::new();
        }
        self.count += 1;
        match self.count {
            1 => Duration::ZERO,
            _ => self.back_off.next(),
        }
    }
}

impl BackOff {
    pub(super) fn new() -> Self {
        Self { next: PAUSES.0 }
    }

    /// The next wait.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(PAUSES.1);
        pause
    }
}

/// Connects to `path`; waits for somebody to listen there, and for room in the queue of who does,
/// until `give_up`, or for ever.
/// `None`: a signal, or the end of the process that is to listen, ended the wait. `news` is told when
/// there is a wait.
pub(super) fn connect(
    path: &Path,
    signals: &Signals,
    give_up: Option<Instant>,
    process: Option<&mut DeviceProcess>,
    news: &mut News,
) -> Result<Option<UnixStream>, RunError> {
    let tries = || connect_at_once(path).inspect_err(|_| news.tell());
    let socket = connect_by(tries, path, signals, give_up, process)?;
    if let Some(socket) = &socket {
        let blocking = socket.set_nonblocking(false);
        blocking.map_err(|source| failed(path, source, false))?;
    }
    Ok(socket)
}

fn connect_by(
    mut connect: impl FnMut() -> io::Result<UnixStream>,
    path: &Path,
    signals: &Signals,
    give_up: Option<Instant>,
    mut process: Option<&mut DeviceProcess>,
) -> Result<Option<UnixStream>, RunError> {
    let begun = Instant::now();
    let (mut said_waits, mut said_short) = (false, false);
    loop {
        let source = match connect() {
            Ok(socket) => return Ok(Some(socket)),
            Err(error) => error,
        };
        let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        let nobody = nobody.contains(&source.kind());
        let left = give_up.map(|end| end.saturating_duration_since(Instant::now()));
        let in_vain = left.is_some_and(|left| left.is_zero());
        if in_vain || !nobody && !is_shortage(&source) {
            return Err(failed(path, source, nobody));
        }
        let name = path.display();
        if !nobody && !said_short {
            log::warn!("cannot connect to {name}, and tries on: {source}");
            said_short = true;
        }
        if let (true, false, Some(left)) = (nobody, said_waits, left) {
            let seconds = left.as_secs_f32();
            log::info!("waiting {seconds:.0} s for a device process on {name}");
            said_waits = true;
        }
        // Who needs long for its start is not late by much more for it.
        let pause = (begun.elapsed() / 4).clamp(FIRST_LOOK, PAUSES.1);
        signals
            .wait(left.unwrap_or(pause).min(pause))
            .map_err(RunError::Signals)?;
        let ended = match &mut process {
            Some(process) => process.exit_status()?.is_some(),
            None => false,
        };
        if ended || signals.end_requested() {
            return Ok(None);
        }
    }
}

fn failed(path: &Path, source: io::Error, nobody: bool) -> RunError {
    let path = path.display().to_string();
    match nobody {
        true => RunError::NobodyListens { path, source },
        false => RunError::connect(path, source),
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::unix_socket::tests::fill_queue;

    fn tried(
        path: &Path,
        signals: &Signals,
        give_up: Option<Instant>,
        process: Option<&mut DeviceProcess>,
    ) -> Result<Option<UnixStream>, RunError> {
        connect(path, signals, give_up, process, &mut News::default())
    }

    #[test]
    fn a_socket_that_comes_late_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let signals = Signals::register().unwrap();
        let soon = || Some(Instant::now() + Duration::from_millis(100));

        let error = tried(&path, &signals, soon(), None).unwrap_err();
        assert!(matches!(error, RunError::NobodyListens { .. }));
        assert!(error.to_string().contains("nobody listens on"));

        let late = path.clone();
        let listening = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            UnixListener::bind(late).unwrap().accept().unwrap();
        });
        assert!(tried(&path, &signals, None, None).unwrap().is_some());
        listening.join().unwrap();

        let error = tried(&path, &signals, soon(), None).unwrap_err();
        assert!(
            matches!(error, RunError::NobodyListens { .. }),
            "a file nobody listens on"
        );
    }

    #[test]
    fn a_queue_that_is_full_is_waited_for_by_who_hears_signals() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let signals = Signals::register().unwrap();
        let listener = UnixListener::bind(&path).unwrap();
        let (waiting, _) = fill_queue(&listener, &path);

        let soon = Some(Instant::now() + Duration::from_millis(20));
        let error = tried(&path, &signals, soon, None).unwrap_err();
        assert!(matches!(error, RunError::Connect { .. }), "{error:?}");
        // Its end is a signal as that which ends this run.
        let mut process =
            DeviceProcess::start(Path::new("/bin/false"), &["ignored".into()], None).unwrap();
        let connected = tried(&path, &signals, None, Some(&mut process));
        assert!(connected.unwrap().is_none());

        let accepting = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            for _ in waiting {
                listener.accept().unwrap();
            }
            listener.accept().unwrap()
        });
        let socket = tried(&path, &signals, None, None).unwrap().unwrap();
        accepting.join().unwrap();
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK), "{flags:?}");
    }

    #[test]
    fn a_process_that_ends_does_not_listen_any_more() {
        let signals = Signals::register().unwrap();
        let nowhere = Path::new("/nonexistent/socket");
        let mut process =
            DeviceProcess::start(Path::new("/bin/false"), &["ignored".into()], None).unwrap();
        let connected = tried(nowhere, &signals, None, Some(&mut process));
        assert!(connected.unwrap().is_none());
        assert!(process.exit_status().unwrap().is_some());
    }

    #[test]
    fn a_path_that_is_no_socket_is_an_error_at_once() {
        let signals = Signals::register().unwrap();
        let error = tried(Path::new("/proc/self/status/x"), &signals, None, None).unwrap_err();
        assert!(matches!(error, RunError::Connect { .. }), "{error:?}");
    }

    #[test]
    fn a_shortage_is_waited_for_and_rights_are_not() {
        let signals = Signals::register().unwrap();
        let path = Path::new("/run/x");
        let short = [Errno::EMFILE, Errno::ENOMEM, Errno::EINTR, Errno::EAGAIN];
        let mut errors = short.into_iter();
        let tries = || match errors.next() {
            Some(errno) => Err(errno.into()),
            None => UnixStream::pair().map(|(socket, _)| socket),
        };
        let connected = connect_by(tries, path, &signals, None, None);
        assert!(connected.unwrap().is_some());
        assert_eq!(errors.next(), None);

        let soon = Some(Instant::now() + Duration::from_millis(20));
        for (errno, give_up) in [(Errno::EMFILE, soon), (Errno::EACCES, None)] {
            let error = connect_by(|| Err(errno.into()), path, &signals, give_up, None);
            let error = error.unwrap_err();
            assert!(matches!(error, RunError::Connect { .. }), "{error:?}");
        }
    }

    #[test]
    fn the_first_restart_comes_at_once_and_the_others_later_and_later() {
        let mut restarts = Restarts::new();
        let short = Duration::from_millis(100);
        let pauses: Vec<_> = (0..20).map(|_| restarts.next(short)).collect();
        assert_eq!(pauses[..3], [Duration::ZERO, PAUSES.0, 2 * PAUSES.0]);
        assert_eq!(pauses[19], PAUSES.1);
        assert_eq!(restarts.next(2 * STEADY), Duration::ZERO);
        assert_eq!(restarts.next(short), PAUSES.0);
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let mut back_off = BackOff::new();
        let pauses: Vec<_> = (0..20).map(|_| back_off.next()).collect();
        assert_eq!((pauses[0], pauses[19]), PAUSES);
        assert!(
            pauses
                .windows(2)
                .all(|pair| pair[0] < pair[1] || pair[1] == PAUSES.1)
        );
    }
}
