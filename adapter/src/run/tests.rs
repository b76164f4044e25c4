// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a run makes of how a connection ended, without a kernel device.

use super::*;
use crate::backend::{BackendError, Step};
use crate::session::SessionError;

/// A run whose device has been made, with a device process on a socket.
fn with_run<T>(test: impl FnOnce(&mut Run<'_>) -> T) -> T {
    let options = RunOptions {
        name: "music".parse().unwrap(),
        device: DeviceType::of_id(VIRTIO_ID_SOUND),
        overrides: Overrides::default(),
        process: DeviceProcessAt::Socket("/run/x".into()),
        ephemeral: true,
    };
    let signals = Signals::register().unwrap();
    test(&mut Run {
        has_device: true,
        ..Run::new(&options, &signals)
    })
}

fn no_answer() -> BackendError {
    BackendError::NoAnswer {
        step: Step::GetFeatures,
        limit: ANSWER_LIMIT,
    }
}

#[test]
fn a_command_that_hangs_is_not_connected_to_again() {
    let in_loop = LoopError::Session(SessionError::Backend(no_answer()));
    for hangs in [no_answer().into(), in_loop.into()] {
        let error = with_run(|run| run.may_connect_again(Err(hangs), Path::new("x"), false, true));
        assert!(error.unwrap_err().is_no_answer());
    }
    // Somebody else may end it, and start another one.
    with_run(|run| {
        let again = run.may_connect_again(Err(no_answer().into()), Path::new("x"), false, false);
        assert_eq!(again.unwrap(), None);
        assert!(!run.news.is_empty());
    });
}

#[test]
fn a_device_that_another_adapter_has_taken_is_not_ours() {
    with_run(|run| {
        let taken = DriverError::NameTaken("music".into());
        assert!(run.has_taken(Err(taken.into())).is_err());
        assert!(!run.has_device);
    });
}

#[test]
fn a_device_that_is_destroyed_meanwhile_is_not_made_again_and_no_error() {
    let name = || "music".to_owned();
    for gone in [
        DriverError::NoDevice(name()),
        DriverError::Dying(name()),
        DriverError::Gone,
    ] {
        assert!(!with_run(|run| run.has_taken(Err(gone.into()))).unwrap());
    }
    // The first time somebody else's has been there.
    with_run(|run| {
        run.has_device = false;
        let error = DriverError::Dying(name());
        assert!(run.has_taken(Err(error.into())).is_err());
        assert!(run.has_taken(Ok(())).unwrap() && run.has_device);
    });
}
