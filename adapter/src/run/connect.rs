// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Finding the device process at its socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::RunError;
use crate::signals::Signals;

/// First and longest wait between two tries.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Waits that double up to a limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackOff {
    next: Duration,
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

/// Connects to `path`; waits for somebody to listen there until `give_up`, or for ever.
/// `None`: a signal ended the wait.
pub(super) fn connect(
    path: &Path,
    signals: &Signals,
    give_up: Option<Instant>,
) -> Result<Option<UnixStream>, RunError> {
    let name = || path.display().to_string();
    let mut back_off = BackOff::new();
    let mut said = false;
    loop {
        let source = match UnixStream::connect(path) {
            Ok(socket) => return Ok(Some(socket)),
            Err(error) => error,
        };
        let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        if !nobody.contains(&source.kind()) {
            return Err(RunError::Connect {
                path: name(),
                source,
            });
        }
        let left = give_up.map(|end| end.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(RunError::NobodyListens {
                path: name(),
                source,
            });
        }
        if let (false, Some(left)) = (said, left) {
            log::info!(
                "waiting {:.0} s for a device process on {}",
                left.as_secs_f32(),
                name()
            );
            said = true;
        }
        let pause = back_off.next();
        signals
            .wait(left.unwrap_or(pause).min(pause))
            .map_err(RunError::Signals)?;
        if signals.end_requested() {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_that_comes_late_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let signals = Signals::register().unwrap();
        let soon = || Some(Instant::now() + Duration::from_millis(100));

        let error = connect(&path, &signals, soon()).unwrap_err();
        assert!(matches!(error, RunError::NobodyListens { .. }));
        assert!(error.to_string().contains("nobody listens on"));

        let late = path.clone();
        let listening = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            UnixListener::bind(late).unwrap().accept().unwrap();
        });
        assert!(connect(&path, &signals, None).unwrap().is_some());
        listening.join().unwrap();

        let error = connect(&path, &signals, soon()).unwrap_err();
        assert!(
            matches!(error, RunError::NobodyListens { .. }),
            "a file nobody listens on"
        );
    }

    #[test]
    fn a_path_that_is_no_socket_is_an_error_at_once() {
        let signals = Signals::register().unwrap();
        let error = connect(Path::new("/proc/self/status/x"), &signals, None).unwrap_err();
        assert!(matches!(error, RunError::Connect { .. }), "{error:?}");
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
