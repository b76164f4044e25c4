// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A session between a fake kernel device and real vhost-user device processes over real sockets.

mod echo_device;
pub(crate) mod fake_driver;
pub(crate) mod scripted_device;

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::device_type::DeviceType;
use fake_driver::{FakeDriver, wait_for};
use scripted_device::*;

/// Long enough for any answer here, on a busy machine too.
const LIMIT: Duration = Duration::from_secs(10);
/// Short enough to wait for in a test of what comes then.
const SHORT_LIMIT: Duration = Duration::from_millis(300);
const FEATURES: u64 = 1 << 32;

fn start_request(resume: bool) -> RequestKind {
    // ACCESS_PLATFORM, as every driver above the loopback transport accepts it.
    RequestKind::Start {
        features: FEATURES | 1 << VIRTIO_F_ACCESS_PLATFORM,
        resume,
    }
}

/// Kept nowhere: what would be the folder is no folder.
pub(crate) fn nothing_in_flight() -> Inflight {
    Inflight::in_folder(Path::new("/dev/null"), &"test".parse().unwrap())
}

fn session(
    socket: UnixStream,
    driver: &FakeDriver,
    device: &str,
) -> Result<Session<FakeDriver>, SessionError> {
    session_within(LIMIT, socket, driver, device)
}

/// With another limit for each answer.
fn session_within(
    limit: Duration,
    socket: UnixStream,
    driver: &FakeDriver,
    device: &str,
) -> Result<Session<FakeDriver>, SessionError> {
    let mut backend = Backend::negotiate(socket, 1, limit, Default::default())?;
    let offer = Offer::ask(
        &mut backend,
        &device.parse().unwrap(),
        &Overrides::default(),
    )?;
    Ok(Session::new(
        driver.clone(),
        backend,
        &offer,
        nothing_in_flight(),
    ))
}

fn offer(script: Script, device: &str) -> Result<Offer, SessionError> {
    offer_within(LIMIT, script, device)
}

fn offer_within(limit: Duration, script: Script, device: &str) -> Result<Offer, SessionError> {
    let (socket, _device) = ScriptedDevice::start(script);
    let mut backend = Backend::negotiate(socket, 1, limit, Default::default())?;
    Offer::ask(
        &mut backend,
        &device.parse::<DeviceType>().unwrap(),
        &Overrides::default(),
    )
}

#[test]
fn text_goes_round_by_kick_and_call() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, echo) = echo_device::start(folder.path(), 2, &[]);
    let driver = FakeDriver::new(2);
    let mut session = session(socket, &driver, "77").unwrap();

    driver.request(1, start_request(false));
    let started = session.handle_request().unwrap();
    assert_eq!(started, Some(Handled::Started { resumed: false }));
    assert_eq!(driver.answer_to(1), Some(Ok(())));
    driver.send(0, "first");
    assert_eq!(driver.receive(0, 1), "tsrif");
    driver.send(1, "other queue");
    assert_eq!(driver.receive(1, 1), "eueuq rehto");
    driver.send(0, "second");
    assert_eq!(driver.receive(0, 2), "dnoces");

    assert_eq!(session.handle_request().unwrap(), None);
    drop(session);
    echo.join().unwrap();
}

#[test]
fn queues_are_stopped_and_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, _echo) = echo_device::start(folder.path(), 2, &[]);
    let driver = FakeDriver::new(2);
    let mut session = session(socket, &driver, "77").unwrap();
    driver.request(1, start_request(false));
    session.handle_request().unwrap();
    driver.send(0, "before");
    assert_eq!(driver.receive(0, 1), "erofeb");

    driver.request(2, RequestKind::Stop);
    assert_eq!(session.handle_request().unwrap(), Some(Handled::Stopped));
    assert_eq!(driver.answer_to(2), Some(Ok(())));
    assert!(!session.is_serving());
    driver.send(0, "nobody is there");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(driver.used_index(0), 1, "a stopped queue is not served");

    // The queue has been used before: what nobody served must be served now.
    driver.request(3, start_request(true));
    let started = session.handle_request().unwrap();
    assert_eq!(started, Some(Handled::Started { resumed: true }));
    assert_eq!(driver.receive(0, 2), "ereht si ydobon");
}

#[test]
fn a_new_device_process_goes_on_at_the_used_index() {
    let folder = tempfile::tempdir().unwrap();
    let driver = FakeDriver::new(1);
    let (socket, first) = echo_device::start(folder.path(), 1, &[]);
    let mut serving = session(socket, &driver, "rng").unwrap();
    driver.request(1, start_request(false));
    serving.handle_request().unwrap();
    for (text, reversed, count) in [("one", "eno", 1), ("two", "owt", 2)] {
        driver.send(0, text);
        assert_eq!(driver.receive(0, count), reversed);
    }
    drop(serving);
    first.join().unwrap();
    driver.put(0, "three");

    let (socket, _second) = echo_device::start(folder.path(), 1, &[]);
    let mut serving = session(socket, &driver, "rng").unwrap();
    driver.request(2, start_request(true));
    serving.handle_request().unwrap();
    assert_eq!(driver.receive(0, 3), "eerht");
}

#[test]
fn messages_come_in_the_order_of_the_specification() {
    let (socket, device) = ScriptedDevice::start(Script::default());
    let driver = FakeDriver::new(2).without_queue(0);
    driver.set_used_index(1, 0xfffe);
    let mut session = session(socket, &driver, "77").unwrap();
    let negotiation = [
        SET_OWNER,
        GET_FEATURES,
        GET_PROTOCOL_FEATURES,
        SET_PROTOCOL_FEATURES,
        GET_QUEUE_NUM,
        SET_BACKEND_REQ_FD,
        SET_VRING_NUM,
    ];
    assert_eq!(device.codes(), negotiation);

    driver.request(1, start_request(true));
    driver.request(2, RequestKind::Stop);
    session.handle_request().unwrap();
    session.handle_request().unwrap();
    let queue = [
        SET_VRING_NUM,
        SET_VRING_ADDR,
        SET_VRING_BASE,
        SET_VRING_CALL,
        SET_VRING_KICK,
        SET_VRING_ENABLE,
    ];
    let expected = [
        &[SET_FEATURES, SET_MEM_TABLE],
        &queue[..],
        &[GET_VRING_BASE],
    ]
    .concat();
    assert_eq!(device.codes()[negotiation.len()..], expected);
    assert_eq!(
        driver.queues_with_eventfds(),
        [1],
        "the driver does not use queue 0"
    );

    let word = |code: u32, at: usize| {
        let body = device.bodies(code).pop().unwrap();
        u32::from_le_bytes(body[at..at + 4].try_into().unwrap())
    };
    assert_eq!(
        (word(SET_VRING_BASE, 0), word(SET_VRING_BASE, 4)),
        (1, 0xfffe)
    );
    assert_eq!((word(SET_VRING_NUM, 0), word(SET_VRING_NUM, 4)), (1, 8));
    let features = u64::from_le_bytes(device.bodies(SET_FEATURES)[0][..].try_into().unwrap());
    assert_eq!(
        features,
        FEATURES | 1 << 30,
        "without ACCESS_PLATFORM, with PROTOCOL_FEATURES"
    );
    // One region: guest address, size, user address, offset in the file.
    let region = &device.bodies(SET_MEM_TABLE)[0];
    assert_eq!(
        (&region[..4], region.len()),
        (&1u32.to_le_bytes()[..], 8 + 32)
    );
    assert_eq!(
        region[8..24],
        [0u64.to_le_bytes(), (1u64 << 18).to_le_bytes()].concat()
    );
    assert_eq!(region[32..40], 0u64.to_le_bytes());
    let user_address = u64::from_le_bytes(region[24..32].try_into().unwrap());
    let rings = &device.bodies(SET_VRING_ADDR)[0];
    let table = u64::from_le_bytes(rings[8..16].try_into().unwrap());
    assert_eq!(
        table - user_address,
        4096 + 4 * 4096,
        "offsets in the file are user addresses"
    );
}

#[test]
fn no_kick_comes_before_a_queue_is_enabled_also_where_nothing_is_acknowledged() {
    let script = Script {
        protocol: 1, // MQ
        ..Script::default()
    };
    let (socket, device) = ScriptedDevice::start(script);
    let driver = FakeDriver::new(1);
    let mut session = session(socket, &driver, "rng").unwrap();
    driver.request(1, start_request(true));
    session.handle_request().unwrap();
    // The driver gets its eventfd behind this.
    let codes = device.codes();
    assert_eq!(codes[codes.len() - 2..], [SET_VRING_ENABLE, GET_FEATURES]);
}

#[test]
fn a_device_process_without_protocol_features_is_served_too() {
    let script = Script {
        features: 1 << 32,
        ..Script::default()
    };
    let (socket, device) = ScriptedDevice::start(script);
    let driver = FakeDriver::new(1);
    let mut session = session(socket, &driver, "rng").unwrap();
    driver.request(1, start_request(false));
    session.handle_request().unwrap();
    wait_for("the last message", || {
        device.codes().contains(&SET_VRING_KICK).then_some(())
    });
    assert!(!device.codes().contains(&SET_VRING_ENABLE));
    assert_eq!(device.bodies(SET_FEATURES)[0], FEATURES.to_le_bytes());
}

#[test]
fn a_changed_config_reaches_the_driver() {
    let script = Script {
        config: vec![1; 8],
        ..Script::default()
    };
    let (socket, device) = ScriptedDevice::start(script);
    let driver = FakeDriver::new(1);
    let mut session = session(socket, &driver, "gpio").unwrap();
    assert!(!session.backend().take_config_change());

    device.change_config(&[2; 8]);
    wait_for("the change", || {
        session.backend().take_config_change().then_some(())
    });
    session.refresh_config().unwrap();
    assert_eq!(driver.last_config(), Some((0, vec![2; 8], true)));
    assert!(!session.backend().take_config_change(), "told once");
}

#[test]
fn a_change_that_waits_for_its_acknowledgement_does_not_stop_both() {
    let script = Script {
        config: vec![1; 8],
        ..Script::with_fault(SET_FEATURES, Fault::ChangeFirst)
    };
    let (socket, _device) = ScriptedDevice::start(script);
    let driver = FakeDriver::new(1);
    let mut session = session(socket, &driver, "gpio").unwrap();
    driver.request(1, start_request(false));
    session.handle_request().unwrap();
    assert_eq!(driver.answer_to(1), Some(Ok(())));
    assert!(session.backend().take_config_change());
}

#[test]
fn a_config_write_reaches_the_device_process_and_comes_back_whole() {
    let (socket, _device) = ScriptedDevice::start(Script {
        config: vec![0; 136],
        ..Script::default()
    });
    let driver = FakeDriver::new(2);
    let mut session = session(socket, &driver, "input").unwrap();
    driver.request(
        1,
        RequestKind::ConfigWrite {
            offset: 1,
            data: vec![7, 8],
        },
    );
    assert_eq!(
        session.handle_request().unwrap(),
        Some(Handled::ConfigWritten)
    );
    assert_eq!(driver.answer_to(1), Some(Ok(())));
    let (offset, config, notify) = driver.last_config().unwrap();
    assert_eq!((offset, config.len(), notify), (0, 136, false));
    assert_eq!(config[..4], [0, 7, 8, 0]);
}

#[test]
fn a_config_write_may_be_refused() {
    let write = || RequestKind::ConfigWrite {
        offset: 0,
        data: vec![1],
    };
    let config = vec![0; 136];
    let script = Script {
        config,
        ..Script::with_fault(SET_CONFIG, Fault::Refuse)
    };
    let (socket, _device) = ScriptedDevice::start(script);
    let driver = FakeDriver::new(2);
    let mut by_device = session(socket, &driver, "input").unwrap();
    driver.request(1, write());
    assert_eq!(
        by_device.handle_request().unwrap(),
        Some(Handled::ConfigWritten)
    );
    assert_eq!(driver.answer_to(1), Some(Err(Errno::EIO)));

    let script = Script {
        queues: 4,
        config: vec![0; 12],
        ..Script::default()
    };
    let (socket, device) = ScriptedDevice::start(script);
    let mut by_type = session(socket, &driver, "sound").unwrap();
    driver.request(2, write());
    by_type.handle_request().unwrap();
    assert_eq!(driver.answer_to(2), Some(Err(Errno::EOPNOTSUPP)));
    assert!(!device.codes().contains(&SET_CONFIG));
}

#[test]
fn a_silent_device_process_is_given_up() {
    for code in [
        GET_FEATURES,
        GET_PROTOCOL_FEATURES,
        GET_QUEUE_NUM,
        SET_BACKEND_REQ_FD,
    ] {
        let (socket, _device) = ScriptedDevice::start(Script::with_fault(code, Fault::Silent));
        let since = Instant::now();
        let error = Backend::negotiate(socket, 1, SHORT_LIMIT, Default::default())
            .err()
            .unwrap();
        assert!(
            matches!(error, BackendError::NoAnswer { .. }),
            "{code}: {error}"
        );
        assert!(since.elapsed() < LIMIT, "{code}");
    }
    for code in [SET_MEM_TABLE, SET_VRING_ADDR, SET_VRING_ENABLE] {
        let (socket, _device) = ScriptedDevice::start(Script::with_fault(code, Fault::Silent));
        let driver = FakeDriver::new(1);
        let mut session = session_within(SHORT_LIMIT, socket, &driver, "rng").unwrap();
        driver.request(1, start_request(false));
        let error = session.handle_request().unwrap_err();
        assert!(
            error.to_string().contains("did not answer SET_"),
            "{code}: {error}"
        );
        assert_eq!(
            driver.answer_to(1),
            Some(Err(Errno::EIO)),
            "the kernel waits no longer"
        );
    }
}

#[test]
fn a_device_process_that_dies_at_any_step_is_reported_as_such() {
    for code in [GET_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM] {
        let (socket, device) = ScriptedDevice::start(Script::with_fault(code, Fault::Close));
        let error = Backend::negotiate(socket, 1, LIMIT, Default::default())
            .err()
            .unwrap();
        assert!(error.is_closed(), "{code}: {error:?}");
        device.join();
    }
    for code in [
        SET_FEATURES,
        SET_MEM_TABLE,
        SET_VRING_KICK,
        SET_VRING_ENABLE,
    ] {
        let (socket, _device) = ScriptedDevice::start(Script::with_fault(code, Fault::Close));
        let driver = FakeDriver::new(1);
        let mut session = session(socket, &driver, "rng").unwrap();
        driver.request(1, start_request(false));
        let error = session.handle_request().unwrap_err();
        assert!(error.is_backend_closed(), "{code}: {error:?}");
        assert_eq!(driver.answer_to(1), Some(Err(Errno::EIO)));
    }
}

#[test]
fn a_stop_is_answered_although_the_device_process_has_died() {
    let (socket, device) = ScriptedDevice::start(Script::with_fault(GET_VRING_BASE, Fault::Close));
    let driver = FakeDriver::new(1);
    let mut session = session(socket, &driver, "rng").unwrap();
    driver.request(1, start_request(false));
    session.handle_request().unwrap();
    driver.request(2, RequestKind::Stop);
    assert!(session.handle_request().unwrap_err().is_backend_closed());
    assert_eq!(driver.answer_to(2), Some(Ok(())));
    device.join();
}

#[test]
fn a_refusal_names_the_step() {
    let (socket, _device) =
        ScriptedDevice::start(Script::with_fault(SET_VRING_ADDR, Fault::Refuse));
    let driver = FakeDriver::new(1);
    let mut session = session(socket, &driver, "rng").unwrap();
    driver.request(1, start_request(false));
    let error = session.handle_request().unwrap_err().to_string();
    assert!(
        error.contains("refused SET_VRING_ADDR for queue 0"),
        "{error}"
    );
}

#[test]
fn queues_are_as_long_as_the_device_process_takes_them() {
    let sizes = |script: Script| {
        let script = Script {
            queues: 4,
            config: vec![0; 12],
            ..script
        };
        offer(script, "sound").map(|offer| offer.queue_sizes)
    };
    let taking = |queue_size| Script {
        queue_size,
        ..Script::default()
    };
    assert_eq!(sizes(taking(1024)).unwrap(), [1024; 4]);
    assert_eq!(sizes(taking(300)).unwrap(), [256; 4]);
    assert!(matches!(sizes(taking(0)), Err(SessionError::NoQueueSize)));
    // A control message has three parts.
    assert_eq!(sizes(taking(4)).unwrap(), [4; 4]);
    let error = sizes(taking(2)).unwrap_err().to_string();
    assert!(error.contains("at least 4 entries, not 2"), "{error}");
    let without_reply_ack = Script {
        protocol: PROTOCOL & !(1 << 3),
        ..taking(64)
    };
    assert_eq!(sizes(without_reply_ack).unwrap(), [256; 4]);
    let error = offer(Script::with_fault(SET_VRING_NUM, Fault::Close), "rng").unwrap_err();
    assert!(error.is_backend_closed(), "{error}");
}

#[test]
fn a_reply_to_something_else_is_an_error() {
    let (socket, _device) =
        ScriptedDevice::start(Script::with_fault(GET_FEATURES, Fault::Nonsense));
    let error = Backend::negotiate(socket, 1, LIMIT, Default::default())
        .err()
        .unwrap();
    assert!(matches!(error, BackendError::BadReply { .. }), "{error:?}");
}

#[test]
fn a_driver_that_resets_meanwhile_is_no_error() {
    let (socket, _device) = ScriptedDevice::start(Script::default());
    let driver = FakeDriver::new(1);
    let mut session = session(socket, &driver, "rng").unwrap();
    driver.request(1, start_request(false));
    driver.reset();
    assert_eq!(session.handle_request().unwrap(), Some(Handled::Stopped));
    assert_eq!(driver.answer_to(1), Some(Err(Errno::EIO)));
    assert!(!session.is_serving());
}

#[test]
fn a_start_of_new_queues_that_fails_leaves_nothing_in_flight() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("test.inflight");
    let start = |resume| {
        std::fs::write(&kept, b"state").unwrap();
        let script = Script::with_fault(SET_FEATURES, Fault::Refuse);
        let (socket, _device) = ScriptedDevice::start(script);
        let driver = FakeDriver::new(1);
        let mut session = session(socket, &driver, "rng").unwrap();
        session.inflight = Inflight::in_folder(folder.path(), &"test".parse().unwrap());
        driver.request(1, start_request(resume));
        session.handle_request().unwrap_err();
    };
    start(true);
    assert!(kept.exists());
    start(false);
    assert!(!kept.exists());
}

#[test]
fn features_that_the_driver_uses_must_be_there() {
    let (socket, device) = ScriptedDevice::start(Script::default());
    let driver = FakeDriver::new(1);
    let mut session = session(socket, &driver, "rng").unwrap();
    driver.request(
        1,
        RequestKind::Start {
            features: FEATURES | 1 << 28,
            resume: true,
        },
    );
    let error = session.handle_request().unwrap_err();
    assert!(
        matches!(
            error,
            SessionError::FeaturesLost {
                missing: 0x1000_0000
            }
        ),
        "{error}"
    );
    assert_eq!(driver.answer_to(1), Some(Err(Errno::EIO)));
    assert!(!device.codes().contains(&SET_FEATURES));
}

#[test]
fn what_a_device_process_cannot_serve_is_said_before_a_device_is_made() {
    let few = offer(
        Script {
            queues: 2,
            ..Script::default()
        },
        "sound",
    )
    .unwrap_err();
    assert!(
        matches!(
            few,
            SessionError::TooFewQueues {
                offered: 2,
                needed: 4,
                ..
            }
        ),
        "{few}"
    );
    let legacy = offer(
        Script {
            features: 1 << 30,
            ..Script::default()
        },
        "rng",
    )
    .unwrap_err();
    assert!(matches!(legacy, SessionError::Legacy), "{legacy}");
    let without = Script {
        protocol: 1,
        queues: 4,
        ..Script::default()
    };
    let without = offer(without, "sound").unwrap_err();
    assert!(
        matches!(without, SessionError::NoConfig { .. }),
        "{without}"
    );
}

#[test]
fn config_sizes_follow_the_features() {
    let sound = |limit, features: u64, size: u8| {
        let config = (0..size).collect();
        offer_within(
            limit,
            Script {
                features,
                queues: 4,
                config,
                ..Script::default()
            },
            "sound",
        )
    };
    let base = 1 << 32 | 1 << 30;
    assert_eq!(
        sound(LIMIT, base, 12).unwrap().config,
        (0..12).collect::<Vec<u8>>()
    );
    assert_eq!(
        sound(LIMIT, base | 1, 16).unwrap().config,
        (0..16).collect::<Vec<u8>>()
    );
    // Another size than the features promise: the reply carries no bytes, and
    // the vhost crate waits for them.
    for (features, size) in [(base, 16), (base | 1, 12), (base, 0)] {
        let error = sound(SHORT_LIMIT, features, size).unwrap_err();
        assert!(
            error.to_string().contains("--config-size"),
            "{size}: {error}"
        );
    }
}

#[test]
fn transport_features_are_not_offered() {
    let transport: u64 = 1 << 33 | 1 << 34 | 1 << 38 | 1 << 40 | 1 << 41;
    let script = Script {
        features: 1 << 32 | 1 << 30 | 1 << 29 | transport,
        ..Script::default()
    };
    assert_eq!(offer(script, "rng").unwrap().features, 1 << 32 | 1 << 29);
}
