// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The event loop over the session's fake kernel device and scripted device process.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use log::{LevelFilter, Log, Metadata, Record};
use nix::errno::Errno;

use super::*;
use crate::backend::Backend;
use crate::driver::RequestKind;
use crate::session::tests::fake_driver::{FakeDriver, wait_for};
use crate::session::tests::nothing_in_flight;
use crate::session::tests::scripted_device::{
    Fault, GET_VRING_BASE, SET_MEM_TABLE, Script, ScriptedDevice,
};
use crate::session::{Offer, Overrides};

const LIMIT: Duration = Duration::from_secs(5);
const START: RequestKind = RequestKind::Start {
    features: 1 << 32,
    resume: false,
};

struct Running {
    driver: FakeDriver,
    device: ScriptedDevice,
    ending: JoinHandle<Result<Ending, LoopError>>,
}

/// Runs an event loop in a thread, until the device is gone if there is a `limit` to that.
fn running(limit: Option<Duration>) -> Running {
    running_with(FakeDriver::new(1), limit, News::default())
}

fn gpio() -> (UnixStream, ScriptedDevice) {
    ScriptedDevice::start(Script {
        config: vec![1; 8],
        ..Script::default()
    })
}

fn with_loop<T>(
    driver: FakeDriver,
    socket: UnixStream,
    mut news: News,
    run: impl FnOnce(&mut EventLoop<'_, FakeDriver>) -> T,
) -> T {
    let signals = Signals::register().unwrap();
    let mut backend = Backend::negotiate(socket, 1, LIMIT, signals.end_flag()).unwrap();
    let device = "gpio".parse().unwrap();
    let offer = Offer::ask(&mut backend, &device, &Overrides::default()).unwrap();
    let mut session = Session::new(driver, backend, &offer, nothing_in_flight());
    let mut ready = Readiness::new(&"echo".parse().unwrap(), &device);
    run(&mut EventLoop::new(
        &mut session,
        &signals,
        None,
        &mut ready,
        &mut news,
        device,
    ))
}

fn running_with(driver: FakeDriver, limit: Option<Duration>, news: News) -> Running {
    let (socket, device) = gpio();
    let kernel = driver.clone();
    let ending = thread::spawn(move || {
        with_loop(kernel, socket, news, |event_loop| match limit {
            None => event_loop.run(),
            Some(limit) => event_loop.run_until_gone(Instant::now() + limit),
        })
    });
    Running {
        driver,
        device,
        ending,
    }
}

#[test]
fn requests_and_config_changes_are_served_as_they_come() {
    let Running {
        driver,
        device,
        ending,
    } = running(None);
    driver.request(1, START);
    assert_eq!(driver.wait_for_answer(1), Ok(()));
    device.change_config(&[9; 8]);
    let config = wait_for("the config", || driver.last_config());
    assert_eq!(config, (0, vec![9; 8], true));
    driver.request(2, RequestKind::Stop);
    assert_eq!(driver.wait_for_answer(2), Ok(()));

    device.close();
    assert_eq!(ending.join().unwrap().unwrap(), Ending::BackendClosed);
}

#[test]
fn a_start_that_the_kernel_did_not_wait_for_ends_it_unless_another_is_in_time() {
    let late = |driver: FakeDriver, then: Option<RequestKind>, answer| {
        driver.give_up(1);
        driver.request(1, START);
        if let Some(then) = then {
            driver.request(2, then);
        }
        let late = running_with(driver, None, News::default());
        assert_eq!(late.ending.join().unwrap().unwrap(), Ending::StartedLate);
        assert_eq!(late.driver.answer_to(1), Some(answer));
    };
    late(FakeDriver::new(1), None, Ok(()));
    // The driver has given up, behind the start or within it.
    late(FakeDriver::new(1), Some(RequestKind::Stop), Ok(()));
    let reset = FakeDriver::new(1);
    reset.reset();
    late(reset, None, Err(Errno::EIO));

    let driver = FakeDriver::new(1);
    driver.give_up(1);
    driver.request(1, START);
    driver.request(2, RequestKind::Stop);
    driver.request(3, START);
    let stopped = running_with(driver, None, News::default());
    assert_eq!(stopped.driver.wait_for_answer(3), Ok(()));
    assert!(!stopped.ending.is_finished());
    stopped.device.close();
    assert_eq!(
        stopped.ending.join().unwrap().unwrap(),
        Ending::BackendClosed
    );
}

#[test]
fn a_driver_that_stops_what_was_started_too_late_ends_it_once_more() {
    let driver = FakeDriver::new(1);
    driver.give_up(1);
    driver.request(1, START);
    let (socket, _device) = gpio();
    with_loop(driver.clone(), socket, News::default(), |event_loop| {
        assert_eq!(event_loop.run().unwrap(), Ending::StartedLate);
        assert!(event_loop.is_serving());
        driver.request(2, RequestKind::Stop);
        assert_eq!(event_loop.run().unwrap(), Ending::StartedLate);
        assert!(!event_loop.is_serving());
    });
}

#[test]
fn the_end_of_this_program_waits_for_no_slow_start() {
    let (socket, device) = ScriptedDevice::start(Script {
        config: vec![1; 8],
        ..Script::with_fault(SET_MEM_TABLE, Fault::Slow)
    });
    let driver = FakeDriver::new(1);
    driver.request(1, START);
    with_loop(driver.clone(), socket, News::default(), |event_loop| {
        let end = event_loop.signals.end_flag();
        thread::scope(|scope| {
            scope.spawn(|| {
                wait_for("a slow step", || {
                    device.codes().contains(&SET_MEM_TABLE).then_some(())
                });
                end.store(true, Ordering::SeqCst);
            });
            assert_eq!(event_loop.run().unwrap(), Ending::Signal);
        });
        assert_eq!(driver.answer_to(1), Some(Err(Errno::EIO)));
        assert_eq!(device.codes().pop(), Some(SET_MEM_TABLE));
        // A start now is refused, and nothing else.
        driver.request(2, START);
        driver.request(3, RequestKind::Stop);
        let due = Instant::now() + 3 * DYING_PERIOD;
        assert_eq!(event_loop.run_until_gone(due).unwrap(), Ending::StillOpen);
        assert_eq!(driver.answer_to(2), Some(Err(Errno::EIO)));
        assert_eq!(driver.answer_to(3), Some(Ok(())));
    });
}

/// A log that nobody reads behind this line, until the other end of the channel is closed.
struct BlockedLog(Mutex<Receiver<()>>);

const UNREAD: &str = "a line that nobody reads";

impl Log for BlockedLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.args().to_string() == UNREAD {
            self.0.lock().unwrap().recv().unwrap_err();
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_log_that_nobody_reads_keeps_no_device_from_being_served() {
    let (reader, log) = mpsc::channel();
    log::set_boxed_logger(Box::new(BlockedLog(Mutex::new(log)))).unwrap();
    log::set_max_level(LevelFilter::Info);
    let mut news = News::default();
    news.add(Level::Warn, UNREAD.into());
    let driver = FakeDriver::new(1);
    driver.request(1, START);
    let running = running_with(driver, None, news);
    assert_eq!(running.driver.wait_for_answer(1), Ok(()));
    running.device.close();
    thread::sleep(2 * DYING_PERIOD);
    assert!(!running.ending.is_finished(), "the line was not told");
    drop(reader);
    assert_eq!(
        running.ending.join().unwrap().unwrap(),
        Ending::BackendClosed
    );
}

#[test]
fn a_device_that_is_destroyed_is_served_until_it_is_gone() {
    let Running {
        driver,
        device,
        ending,
    } = running(None);
    driver.request(1, START);
    driver.wait_for_answer(1).unwrap();
    driver.destroy();
    thread::sleep(2 * DYING_PERIOD);
    assert!(!ending.is_finished(), "an application may still use it");
    driver.request_silently(2, RequestKind::Stop);
    assert_eq!(driver.wait_for_answer(2), Ok(()));
    assert!(device.codes().contains(&GET_VRING_BASE));
    driver.go();
    assert_eq!(ending.join().unwrap().unwrap(), Ending::Destroyed);
}

#[test]
fn a_device_that_stays_open_is_waited_for_only_so_long() {
    let Running { ending, .. } = running(Some(3 * DYING_PERIOD));
    assert_eq!(ending.join().unwrap().unwrap(), Ending::StillOpen);
}

#[test]
fn nothing_happens_while_nothing_happens() {
    let Running {
        driver,
        device,
        ending,
    } = running(None);
    driver.request(1, START);
    driver.wait_for_answer(1).unwrap();
    let looked = driver.times_looked();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(
        driver.times_looked(),
        looked,
        "the event loop has not slept"
    );
    device.close();
    ending.join().unwrap().unwrap();
}

#[test]
fn the_end_of_the_command_ends_it() {
    let (socket, _device) = ScriptedDevice::start(Script::default());
    let mut backend = Backend::negotiate(socket, 1, LIMIT, Default::default()).unwrap();
    let rng = "rng".parse().unwrap();
    let offer = Offer::ask(&mut backend, &rng, &Overrides::default()).unwrap();
    let mut ready = Readiness::new(&"dice".parse().unwrap(), &rng);
    let mut session = Session::new(FakeDriver::new(1), backend, &offer, nothing_in_flight());
    let signals = Signals::register().unwrap();
    // Ends by itself, whatever its arguments are.
    let mut process =
        DeviceProcess::start(Path::new("/bin/false"), &["ignored".into()], None).unwrap();
    let process = Some(&mut process);
    let mut news = News::default();
    let mut event_loop =
        EventLoop::new(&mut session, &signals, process, &mut ready, &mut news, rng);
    match event_loop.run().unwrap() {
        Ending::CommandEnded(status) => assert_eq!(status.code(), Some(1)),
        other => panic!("{other:?}"),
    }
}
