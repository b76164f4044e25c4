// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use std::os::unix::net::UnixListener;

use super::*;

fn device() -> Device {
    Device {
        name: "music".into(),
        device_id: 25,
        features: 0,
        driver_features: 0,
        memory_size: 4096,
        zero_copy: true,
        queue_count: 4,
        config_size: 12,
        state: State::Quiesced,
        attached: false,
        driver_bound: true,
        virtio_index: 0,
    }
}

#[test]
fn only_a_device_of_the_same_shape_is_taken_over() {
    let name = "music".parse().unwrap();
    let new = NewDevice {
        name: &name,
        device_id: 25,
        features: 0,
        zero_copy: true,
        config: &[0; 12],
        queue_sizes: &[256; 4],
    };
    assert_eq!(difference(&device(), &new), None);
    let says = |change: fn(&mut Device), text: &str| {
        let mut device = device();
        change(&mut device);
        let difference = difference(&device, &new).unwrap();
        assert_eq!(difference, text);
    };
    says(
        |device| device.device_id = 4,
        "it is a virtio device 4 (rng)",
    );
    says(|device| device.queue_count = 2, "it has 2 queues, not 4");
    says(
        |device| device.config_size = 16,
        "its config space has 16 bytes, not 12",
    );
}

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
        "the file is there, nobody listens"
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
    let mut pause = BACK_OFF.0;
    for _ in 0..20 {
        let longer = next_pause(pause);
        assert!(longer > pause || longer == BACK_OFF.1);
        pause = longer;
    }
    assert_eq!(pause, BACK_OFF.1);
}
