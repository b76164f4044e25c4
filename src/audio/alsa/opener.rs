// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Opens and closes PCMs in a thread of its own: either may take long, and the audio thread serves
//! other streams meanwhile. A card that is busy or gone is tried again until it can be opened; while
//! nothing is missing the thread sleeps.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use nix::sys::time::TimeSpec;

use super::hardware::Hardware;
use crate::audio::HostError;
use crate::audio::orders::{Orders, Received, orders};
use crate::stream::Params;
use crate::wire::Direction;

/// Where the device files of sound cards come and go.
const FOLDER: &str = "/dev/snd";
/// Between two attempts, at first and at most. Where the folder can be watched, what happens there
/// is faster.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After something has happened in the folder: a device file gets its rights after it is made.
const SETTLING: Duration = Duration::from_millis(10);
/// News of a stream that may wait.
const NEWS_PER_STREAM: usize = 8;

/// A PCM to open.
#[derive(Clone)]
pub struct Pcm {
    /// Its ALSA name.
    pub device: Arc<str>,
    /// What it is opened for.
    pub direction: Direction,
}

enum Order {
    Open {
        stream: usize,
        ticket: u32,
        params: Params,
        /// It was open and failed.
        again: bool,
    },
    Cancel(usize),
    Close(Box<Hardware>),
}

/// What became of an order to open. After an error the opener goes on trying, in silence.
pub struct News {
    /// The stream that it is for.
    pub stream: usize,
    /// The order's number.
    pub ticket: u32,
    /// The PCM, configured and prepared.
    pub result: Result<Box<Hardware>, HostError>,
}

/// The audio thread's end: nothing here waits.
pub struct Opener {
    orders: Orders<Order>,
    news: Receiver<News>,
    alarm: Arc<EventFd>,
    /// News taken whose alarm has not been read yet.
    alarms: u32,
    ticket: u32,
}

impl Opener {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no eventfd or no thread.
    pub fn start(pcms: Vec<Pcm>) -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_SEMAPHORE;
        let alarm = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let (orders, received) = orders(pcms.len())?;
        let (told, news) = sync_channel(NEWS_PER_STREAM * pcms.len());
        let work = Work {
            tasks: pcms.iter().map(|_| Task::default()).collect(),
            pcms,
            news: told,
            alarm: Arc::clone(&alarm),
        };
        std::thread::Builder::new()
            .name("opener".to_owned())
            .spawn(move || work.run(received))?;
        Ok(Self {
            orders,
            news,
            alarm,
            alarms: 0,
            ticket: 0,
        })
    }

    /// Has a stream's PCM opened; news with this ticket will come. An earlier order for the stream is
    /// void. `again` where it was open and failed.
    pub fn open(&mut self, stream: usize, params: &Params, again: bool) -> u32 {
        self.ticket = self.ticket.wrapping_add(1);
        let order = Order::Open {
            stream,
            ticket: self.ticket,
            params: *params,
            again,
        };
        self.orders.give(stream, order);
        self.ticket
    }

    /// The stream needs no PCM any more.
    pub fn cancel(&mut self, stream: usize) {
        self.orders.give(stream, Order::Cancel(stream));
    }

    /// Has a PCM closed.
    pub fn close(&mut self, hardware: Box<Hardware>) {
        // Where there is no room, this thread does it itself.
        drop(self.orders.try_give(Order::Close(hardware)));
    }

    /// Readable when there are news.
    pub fn alarm(&self) -> BorrowedFd<'_> {
        self.alarm.as_fd()
    }

    /// The next news. Called at every wake-up.
    pub fn news(&mut self) -> Option<News> {
        self.orders.give_late();
        let news = self.news.try_recv().ok();
        self.alarms += u32::from(news.is_some());
        // The alarm of news that came just now may still be on its way.
        if self.alarms > 0 && self.alarm.read().is_ok() {
            self.alarms -= 1;
        }
        news
    }
}

/// A PCM that is missing.
#[derive(Default)]
struct Task {
    /// Ticket and parameters; `None` where nothing is to be done.
    wanted: Option<(u32, Params)>,
    due: Option<Instant>,
    pause: Duration,
    told: bool,
    opened: Option<Instant>,
}

impl Task {
    fn want(&mut self, ticket: u32, params: Params, again: bool) {
        // A card that fails as soon as it is open is not tried faster and faster.
        let flaps = again
            && self
                .opened
                .is_some_and(|at| at.elapsed() < 2 * LONGEST_PAUSE);
        self.pause = if flaps {
            (2 * self.pause).clamp(FIRST_PAUSE, LONGEST_PAUSE)
        } else {
            FIRST_PAUSE
        };
        self.wanted = Some((ticket, params));
        self.told = again;
        self.due = Instant::now().checked_add(if again { self.pause } else { Duration::ZERO });
    }

    fn failed(&mut self) {
        self.told = true;
        self.due = Instant::now().checked_add(self.pause);
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
    }
}

/// The thread's end.
struct Work {
    pcms: Vec<Pcm>,
    tasks: Vec<Task>,
    news: SyncSender<News>,
    alarm: Arc<EventFd>,
}

impl Work {
    fn run(mut self, mut orders: Received<Order>) {
        let mut folder = None;
        loop {
            let _ = orders.bell.read();
            let last = orders.queue.is_abandoned();
            while let Ok(order) = orders.queue.pop() {
                self.take(order);
            }
            if last {
                return;
            }
            if self.try_all().is_err() {
                return;
            }
            // What this thread's own attempts did in the folder is no news.
            let over = folder
                .as_ref()
                .is_none_or(|folder| is_over(&events(folder)));
            if self.next().is_none() {
                folder = None;
            } else if over {
                folder = watch();
                if folder.is_some() {
                    // What happened before this shows at once, or with the next attempt.
                    self.hurry();
                }
            }
            let news = sleep(&orders.bell, folder.as_ref(), self.next());
            if is_over(&news) {
                folder = None;
            }
            if news.iter().any(is_hopeful) {
                self.hurry();
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Open {
                stream,
                ticket,
                params,
                again,
            } => {
                if let Some(task) = self.tasks.get_mut(stream) {
                    task.want(ticket, params, again);
                }
            }
            Order::Cancel(stream) => {
                if let Some(task) = self.tasks.get_mut(stream) {
                    task.wanted = None;
                }
            }
            Order::Close(hardware) => drop(hardware),
        }
    }

    /// When the next attempt is due.
    fn next(&self) -> Option<Instant> {
        let missing = self.tasks.iter().filter(|task| task.wanted.is_some());
        missing.filter_map(|task| task.due).min()
    }

    /// Something has happened that may have brought a card back.
    fn hurry(&mut self) {
        let soon = Instant::now().checked_add(SETTLING);
        for task in &mut self.tasks {
            task.due = task.due.min(soon);
        }
    }

    /// Opens what is due. An error means that nobody waits any more.
    fn try_all(&mut self) -> Result<(), ()> {
        let now = Instant::now();
        for (stream, (pcm, task)) in self.pcms.iter().zip(&mut self.tasks).enumerate() {
            let Some((ticket, params)) = task.wanted.filter(|_| task.due <= Some(now)) else {
                continue;
            };
            // Keeps the library from writing each attempt's complaint into the log.
            let _complaints = alsa::Output::local_error_handler();
            let result = Hardware::open(&pcm.device, pcm.direction, &params).map(Box::new);
            if result.is_ok() {
                task.wanted = None;
                task.opened = Some(Instant::now());
            } else if task.told {
                task.failed();
                continue;
            } else {
                task.failed();
            }
            let news = News {
                stream,
                ticket,
                result,
            };
            self.news.send(news).map_err(drop)?;
            let _ = self.alarm.write(1);
        }
        Ok(())
    }
}

/// Watches the folder of sound cards, or where it will be.
fn watch() -> Option<Inotify> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
    let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_CLOSE;
    let watched = inotify.add_watch(FOLDER, flags);
    watched
        .or_else(|_| inotify.add_watch("/dev", AddWatchFlags::IN_CREATE))
        .ok()?;
    Some(inotify)
}

/// Whether a card may be there now that was not before, or free.
fn is_hopeful(event: &InotifyEvent) -> bool {
    let name = event.name.as_deref().unwrap_or(OsStr::new("")).as_bytes();
    !event.mask.intersects(AddWatchFlags::IN_CLOSE) || name.starts_with(b"pcm")
}

/// What has happened in the folder.
fn events(folder: &Inotify) -> Vec<InotifyEvent> {
    folder.read_events().unwrap_or_default()
}

/// Whether the folder is gone, or there now where another one was watched for it: what is watched is another one
/// from now on.
fn is_over(events: &[InotifyEvent]) -> bool {
    events.iter().any(|event| {
        event.mask.contains(AddWatchFlags::IN_IGNORED)
            || event.name.as_deref() == Some(OsStr::new("snd"))
    })
}

/// Sleeps until there are orders, an attempt is due, or something happens in the folder; returns what did.
fn sleep(bell: &EventFd, folder: Option<&Inotify>, due: Option<Instant>) -> Vec<InotifyEvent> {
    let timeout =
        due.map(|due| TimeSpec::from_duration(due.saturating_duration_since(Instant::now())));
    let place = folder.map_or(bell.as_fd(), AsFd::as_fd);
    let mut polled = [bell.as_fd(), place].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    // A signal, or no memory: the attempt then comes a little early.
    let _ = ppoll(&mut polled, timeout, None);
    folder.map(events).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm_format;

    const PARAMS: Params = Params {
        format: pcm_format::S16,
        rate: 48_000,
        channels: 2,
        buffer_bytes: 7680,
        period_bytes: 1920,
        features: 0,
    };

    fn wait(opener: &mut Opener) -> News {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(news) = opener.news() {
                return news;
            }
            assert!(Instant::now() < end, "no news");
            let mut alarm = [PollFd::new(opener.alarm(), PollFlags::POLLIN)];
            ppoll(
                &mut alarm,
                Some(TimeSpec::from_duration(Duration::from_secs(10))),
                None,
            )
            .unwrap();
        }
    }

    fn opener() -> Opener {
        Opener::start(vec![Pcm {
            device: Arc::from("hw:nosuchcard"),
            direction: Direction::Playback,
        }])
        .unwrap()
    }

    #[test]
    fn a_missing_card_is_told_of_once_for_each_order() {
        let mut opener = opener();
        let ticket = opener.open(0, &PARAMS, false);
        let news = wait(&mut opener);
        assert_eq!((news.stream, news.ticket), (0, ticket));
        assert!(news.result.is_err());
        std::thread::sleep(4 * FIRST_PAUSE);
        assert!(opener.news().is_none());
        let next = opener.open(0, &PARAMS, false);
        assert_ne!(next, ticket);
        assert_eq!(wait(&mut opener).ticket, next);
    }

    #[test]
    fn a_folder_that_goes_and_one_that_comes_are_not_missed() {
        let folder = tempfile::tempdir().unwrap();
        let watched = folder.path().join("dev");
        std::fs::create_dir(&watched).unwrap();
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        inotify
            .add_watch(&watched, AddWatchFlags::IN_CREATE)
            .unwrap();
        for (name, over) in [("pcmC0D0p", false), ("snd", true)] {
            std::fs::create_dir(watched.join(name)).unwrap();
            assert_eq!(is_over(&events(&inotify)), over, "{name}");
        }
        std::fs::remove_dir_all(&watched).unwrap();
        assert!(is_over(&events(&inotify)));
    }

    #[test]
    fn the_alarm_is_silent_once_all_news_are_taken() {
        let mut opener = opener();
        opener.open(0, &PARAMS, false);
        wait(&mut opener);
        while opener.alarms > 0 {
            assert!(opener.news().is_none());
        }
        assert!(opener.alarm.read().is_err());
    }

    #[test]
    fn a_card_that_fails_at_once_is_tried_ever_more_slowly() {
        let mut task = Task::default();
        task.want(1, PARAMS, false);
        assert!(task.due <= Some(Instant::now()) && !task.told);
        for pause in [100, 200, 400, 800, 1600, 2000, 2000] {
            task.opened = Some(Instant::now());
            task.want(1, PARAMS, true);
            assert_eq!((task.pause.as_millis(), task.told), (pause, true));
            assert!(task.due > Some(Instant::now()));
        }
        task.opened = Instant::now().checked_sub(Duration::from_secs(60));
        task.want(1, PARAMS, true);
        assert_eq!(task.pause, FIRST_PAUSE);
    }

    #[test]
    fn attempts_that_fail_come_ever_more_slowly() {
        let mut task = Task::default();
        task.want(1, PARAMS, false);
        for pause in [100, 200, 400, 800, 1600, 2000, 2000] {
            task.failed();
            assert_eq!(task.pause.as_millis(), pause);
        }
        assert!(task.told);
    }
}
