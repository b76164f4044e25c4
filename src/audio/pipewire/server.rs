// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Speaks with the server, in a thread of its own: connects, asks for nodes and gives them back. A
//! server that is missing is tried again while a stream wants it.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use pipewire::context::ContextRc;
use pipewire::core::{CoreRc, Listener, PW_ID_CORE};
use pipewire::loop_::Timeout;
use pipewire::main_loop::MainLoopRc;
use pipewire::properties::properties;
use pipewire::spa::support::system::IoFlags;
use rtrb::{Consumer, Producer, RingBuffer};

use super::line::Line;
use super::node::{Node, Wish};
use crate::audio::orders::{Orders, Received, orders};
use crate::audio::{HostError, PipeWireError};
use crate::stream::Params;

/// Between two attempts, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long the program waits for the first attempt's outcome, before it says that there is none.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// How long a node stays for what the graph has still to take from it: no cycle is longer. Nobody says when the
/// graph has.
const LINGERING: Duration = Duration::from_millis(250);
/// News of a stream that may wait.
const NEWS_PER_STREAM: usize = 16;

enum Order {
    Open {
        stream: usize,
        ticket: u32,
        params: Params,
    },
    Close(usize),
    Bury(Box<Line>),
}

/// What became of an order to open. After an error the thread goes on trying, and tells when the
/// stream is there under the same ticket.
pub struct News {
    /// The stream that it is for.
    pub stream: usize,
    /// The order's number.
    pub ticket: u32,
    /// The server itself is not there.
    pub gone: bool,
    /// The stream's end in the graph.
    pub result: Result<Box<Line>, HostError>,
}

/// The audio thread's end: nothing here waits.
pub struct Server {
    orders: Orders<Order>,
    news: Consumer<News>,
    bell: Arc<EventFd>,
    ticket: u32,
}

impl Server {
    /// Starts the thread, and waits for the outcome of its first attempt to find a server: what it
    /// complains about is returned.
    ///
    /// # Errors
    /// The system gives no eventfd or no thread.
    pub fn start(wishes: Vec<Wish>) -> io::Result<(Self, Option<PipeWireError>)> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let bell = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let (orders, received) = orders(wishes.len())?;
        let (told, news) = RingBuffer::new(NEWS_PER_STREAM * wishes.len());
        let (first, word) = sync_channel(1);
        let ends = (received, told, Arc::clone(&bell));
        std::thread::Builder::new()
            .name("pipewire".to_owned())
            .spawn(move || run(wishes, ends, &first))?;
        let missing = word.recv_timeout(FIRST_WORD).unwrap_or_else(|_| {
            let what = "the server does not answer".to_owned();
            Some(PipeWireError { what })
        });
        let server = Self {
            orders,
            news,
            bell,
            ticket: 0,
        };
        Ok((server, missing))
    }

    /// Asks for a place in the graph; news with this ticket will come. An earlier order for the stream
    /// is void.
    pub fn open(&mut self, stream: usize, params: &Params) -> u32 {
        self.ticket = self.ticket.wrapping_add(1);
        let order = Order::Open {
            stream,
            ticket: self.ticket,
            params: *params,
        };
        self.orders.give(stream, order);
        self.ticket
    }

    /// The stream needs no place in the graph any more.
    pub fn close(&mut self, stream: usize, line: Option<Box<Line>>) {
        self.orders.give(stream, Order::Close(stream));
        if let Some(line) = line {
            self.bury(line);
        }
    }

    /// Has an end freed that is of no use any more.
    pub fn bury(&mut self, line: Box<Line>) {
        // Where there is no room, this thread does it itself.
        drop(self.orders.try_give(Order::Bury(line)));
    }

    /// Readable when there are news, or a stream wants to be looked at.
    pub fn alarm(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Takes note of the alarm: what it is about is looked at after this.
    pub fn quiet(&self) {
        let _ = self.bell.read();
    }

    /// The next news. Called at every wake-up.
    pub fn news(&mut self) -> Option<News> {
        self.orders.give_late();
        self.news.pop().ok()
    }
}

type Ends = (Received<Order>, Producer<News>, Arc<EventFd>);

/// A stream that wants a place in the graph, or has one.
#[derive(Default)]
struct Task {
    wanted: Option<(u32, Params)>,
    node: Option<Node>,
    /// Until the server has the node.
    line: Option<Box<Line>>,
    /// What the audio thread was told last of its being missing: whether the server itself is.
    told: Option<bool>,
}

impl Task {
    /// Whether the audio thread is to be told that the stream is missing; notes that it is. What a stream
    /// does without a place in the graph depends on whether there is a server.
    fn is_news(&mut self, gone: bool) -> bool {
        self.wanted.is_some() && self.told.replace(gone) != Some(gone)
    }
}

/// A connection to a server.
struct Connection {
    // Before what it listens to: it takes itself out of its list.
    _listener: Listener,
    core: CoreRc,
    /// What went wrong with it.
    failed: Rc<RefCell<Option<String>>>,
}

struct Work {
    wishes: Vec<Wish>,
    // Before the connection: a node belongs to one.
    tasks: Vec<Task>,
    /// Nodes that are only there for what the graph has still to take from them, and until when.
    leaving: Vec<(Node, Instant)>,
    connection: Option<Connection>,
    context: ContextRc,
    news: Producer<News>,
    bell: Arc<EventFd>,
    pause: Duration,
    due: Option<Instant>,
}

/// The thread: ends when the audio thread's end is gone.
fn run(wishes: Vec<Wish>, ends: Ends, first: &SyncSender<Option<PipeWireError>>) {
    let (mut orders, news, bell) = ends;
    let made = MainLoopRc::new(None).and_then(|main| Ok((context(&main)?, main)));
    let (context, main) = match made {
        Ok(made) => made,
        Err(error) => {
            let what = format!("the library cannot be used: {error}");
            let _ = first.send(Some(PipeWireError { what }));
            return;
        }
    };
    let woken = main
        .loop_()
        .add_io(Fd(Arc::clone(&orders.bell)), IoFlags::IN, |bell| {
            let _ = bell.0.read();
        });
    let mut work = Work {
        tasks: wishes.iter().map(|_| Task::default()).collect(),
        wishes,
        leaving: Vec::new(),
        connection: None,
        context,
        news,
        bell,
        pause: FIRST_PAUSE,
        due: None,
    };
    let _ = first.send(work.connect().err().map(|what| PipeWireError { what }));
    loop {
        let last = orders.queue.is_abandoned();
        while let Ok(order) = orders.queue.pop() {
            work.take(order);
        }
        if last {
            break;
        }
        let timeout = work.attend();
        main.loop_().iterate(timeout);
    }
    drop(work);
    drop(woken);
}

/// An eventfd that a loop can watch.
struct Fd(Arc<EventFd>);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// The library with a data thread that asks for a real-time priority, where this version of it has
/// a configuration for that.
fn context(main: &MainLoopRc) -> Result<ContextRc, pipewire::Error> {
    let real_time = properties! { *pipewire::keys::CONFIG_NAME => "client-rt.conf" };
    ContextRc::new(main, Some(real_time)).or_else(|_| ContextRc::new(main, None))
}

impl Work {
    fn take(&mut self, order: Order) {
        match order {
            Order::Open {
                stream,
                ticket,
                params,
            } => {
                self.replace(stream, Some((ticket, params)));
                self.due = None;
                self.pause = FIRST_PAUSE;
            }
            Order::Close(stream) => self.replace(stream, None),
            Order::Bury(line) => drop(line),
        }
    }

    /// A stream wants something else from now on.
    fn replace(&mut self, stream: usize, wanted: Option<(u32, Params)>) {
        let Some(task) = self.tasks.get_mut(stream) else {
            return;
        };
        let task = std::mem::replace(
            task,
            Task {
                wanted,
                ..Task::default()
            },
        );
        let until = Instant::now().checked_add(LINGERING);
        self.leaving.extend(task.node.zip(until));
    }

    /// Looks after everything; returns how long there is nothing more to do.
    fn attend(&mut self) -> Timeout {
        self.look_after_connection();
        let wanted = self.tasks.iter().any(|task| task.wanted.is_some());
        let now = Instant::now();
        let due = self.due.is_none_or(|due| now >= due);
        if wanted
            && due
            && self.connection.is_none()
            && let Err(what) = self.connect()
        {
            self.due = now.checked_add(self.pause);
            self.pause = (2 * self.pause).min(LONGEST_PAUSE);
            self.tell_all(&what);
        }
        self.leaving
            .retain(|(node, until)| node.is_leaving() && now < *until);
        self.ask_for_nodes();
        self.look_after_nodes();
        let retry = self.due.filter(|_| wanted);
        let lingering = self.leaving.iter().map(|(_, until)| *until);
        match lingering.chain(retry).min() {
            // In whole milliseconds, rounded up: a little too early would be too often.
            Some(due) => Timeout::Finite(
                due.saturating_duration_since(Instant::now()) + Duration::from_millis(1),
            ),
            None => Timeout::Infinite,
        }
    }

    fn connect(&mut self) -> Result<(), String> {
        let core = self.context.connect_rc(None);
        let core = core.map_err(|_| {
            let reason = io::Error::last_os_error();
            format!("no server can be reached ({reason})")
        })?;
        let failed = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&failed);
        let listener = core
            .add_listener_local()
            .error(move |id, _, result, message| {
                // A message for something that the server has removed meanwhile is answered with ENOENT.
                if id == PW_ID_CORE && result != -(Errno::ENOENT as i32) {
                    slot.replace(Some(message.to_owned()));
                }
            })
            .register();
        self.connection = Some(Connection {
            _listener: listener,
            core,
            failed,
        });
        self.due = None;
        Ok(())
    }

    /// A connection that has failed goes, with all its nodes.
    fn look_after_connection(&mut self) {
        let connection = self.connection.as_ref();
        let failed = connection.and_then(|connection| connection.failed.borrow_mut().take());
        let Some(what) = failed else {
            return;
        };
        for task in &mut self.tasks {
            task.node = None;
            task.line = None;
        }
        self.leaving.clear();
        self.connection = None;
        self.pause = FIRST_PAUSE;
        self.due = Instant::now().checked_add(self.pause);
        self.tell_all(&format!("the server is gone ({what})"));
    }

    fn ask_for_nodes(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        if self.due.is_some_and(|due| Instant::now() < due) {
            return;
        }
        self.due = None;
        let mut refused = Vec::new();
        for (stream, (task, wish)) in self.tasks.iter_mut().zip(&self.wishes).enumerate() {
            let Some((_, params)) = task.wanted.filter(|_| task.node.is_none()) else {
                continue;
            };
            match Node::new(&connection.core, wish, &params, &self.bell) {
                Ok((node, line)) => {
                    task.node = Some(node);
                    task.line = Some(line);
                }
                Err(what) => refused.push((stream, what)),
            }
        }
        self.refuse(refused);
    }

    /// Hands over what the server has, and takes back what it has not any more.
    fn look_after_nodes(&mut self) {
        let mut refused = Vec::new();
        for stream in 0..self.tasks.len() {
            let Some(task) = self.tasks.get_mut(stream) else {
                continue;
            };
            match task.node.as_ref().map(Node::is_there) {
                Some(Ok(true)) => {
                    if let Some(line) = task.line.take() {
                        task.told = None;
                        self.tell(stream, Ok(line));
                    }
                }
                Some(Err(what)) => {
                    task.node = None;
                    task.line = None;
                    refused.push((stream, what));
                }
                Some(Ok(false)) | None => {}
            }
        }
        self.refuse(refused);
    }

    fn refuse(&mut self, refused: Vec<(usize, String)>) {
        for (stream, what) in refused {
            self.due = Instant::now().checked_add(self.pause);
            self.pause = (2 * self.pause).min(LONGEST_PAUSE);
            self.tell_missing(stream, &what);
        }
    }

    fn tell_all(&mut self, what: &str) {
        for stream in 0..self.tasks.len() {
            self.tell_missing(stream, what);
        }
    }

    /// Tells the audio thread that a stream is missing, once, and again when it is the server that is, or
    /// no longer.
    fn tell_missing(&mut self, stream: usize, what: &str) {
        let gone = self.connection.is_none();
        let task = self.tasks.get_mut(stream);
        if task.is_some_and(|task| task.is_news(gone)) {
            let what = what.to_owned();
            self.tell(stream, Err(HostError::PipeWire(PipeWireError { what })));
        }
    }

    fn tell(&mut self, stream: usize, result: Result<Box<Line>, HostError>) {
        let task = self.tasks.get(stream);
        if let Some((ticket, _)) = task.and_then(|task| task.wanted) {
            // There is room: the audio thread takes news at each wake-up.
            let _ = self.news.push(News {
                stream,
                ticket,
                gone: self.connection.is_none(),
                result,
            });
            let _ = self.bell.write(1);
        }
    }
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

    #[test]
    fn a_server_that_goes_after_it_has_refused_a_stream_is_news() {
        let mut task = Task::default();
        assert!(!task.is_news(true), "nobody wants the stream");
        task.wanted = Some((1, PARAMS));
        let news = [false, true, true, false].map(|gone| task.is_news(gone));
        assert_eq!(news, [true, true, false, true]);
    }
}
