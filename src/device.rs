// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The audio thread: sleeps until a driver kicks, a deadline passes or the session has an order,
//! then serves the card. In steady state a wake-up costs one ppoll and, for each queue whose driver is
//! interrupted, a poll and a write.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::time::ClockId;
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::area::Area;
use crate::audio::Nanos;
use crate::audio_thread::AudioThread;
use crate::card::{Card, CardStatus};
use crate::events::Notice;
use crate::memory::Memory;
use crate::realtime::Stint;
use crate::report::Report;
use crate::ring::{Ring, RingError, Setup};
use crate::time::{now, read};
use crate::wire::QUEUES;

/// Orders that may wait for the audio thread; a session that has more waits itself. The queue has no
/// lock: a real-time thread would wait in vain for an ordinary one that it keeps from running.
const ORDERS: usize = 16;
/// How long a session leaves a full queue alone.
const FULL: Duration = Duration::from_millis(1);
/// How long a session waits for an answer. The audio thread answers within one wake-up, in which it
/// waits for no real card or sound server: they are opened by a thread of their own. For a file or a
/// pipeline it waits up to 0.8 s a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Descriptors of the host that are waited for at once; the rest is looked after by the clock.
const WAKERS: usize = 32;

/// What the session orders. Each order is complete in itself.
enum Order {
    Start(usize, Setup, Arc<Memory>, SyncSender<Result<(), RingError>>),
    Stop(usize, SyncSender<Option<u16>>),
    Enable(usize, bool),
    Call(usize, Option<File>),
    Features(u64),
    Memory(Arc<Memory>, SyncSender<()>),
    Area(Area, SyncSender<()>),
    Reset(SyncSender<()>),
    Tell(Notice, SyncSender<()>),
    Status(CardStatus, SyncSender<CardStatus>),
    Shutdown,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The audio thread cannot be set up.
    #[error("cannot start the audio thread: {0}")]
    Setup(#[source] std::io::Error),
    /// The audio thread does not answer.
    #[error("the audio thread does not answer")]
    Silent,
    /// The ring was refused.
    #[error("ring refused: {0}")]
    Ring(#[from] RingError),
}

/// The session's end of the audio thread.
pub struct Device {
    orders: Mutex<Producer<Order>>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Device {
    /// Has the audio thread serve a card.
    ///
    /// # Errors
    /// The system gives no eventfd.
    pub fn start(thread: AudioThread, card: Card) -> Result<Self, DeviceError> {
        let setup = |errno: Errno| DeviceError::Setup(errno.into());
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = Arc::new(EventFd::from_value_and_flags(0, flags).map_err(setup)?);
        let (orders, mut taken) = RingBuffer::new(ORDERS);
        let thread_wake = Arc::clone(&wake);
        let thread = thread.run(move || run(card, &mut taken, &thread_wake));
        Ok(Self {
            orders: Mutex::new(orders),
            wake,
            thread: Some(thread),
        })
    }

    /// Written to wake the audio thread, for who has news that it looks at by itself.
    pub fn waker(&self) -> Arc<EventFd> {
        Arc::clone(&self.wake)
    }

    fn order(&self, order: Order) -> Result<(), DeviceError> {
        let mut orders = self.orders.lock().map_err(|_| DeviceError::Silent)?;
        let (mut order, end) = (order, Instant::now() + ANSWER_TIMEOUT);
        if orders.is_abandoned() {
            return Err(DeviceError::Silent);
        }
        while let Err(PushError::Full(back)) = orders.push(order) {
            if Instant::now() > end {
                return Err(DeviceError::Silent);
            }
            order = back;
            std::thread::sleep(FULL);
        }
        // The counter is full only if the thread has been woken already.
        let _ = self.wake.write(1);
        Ok(())
    }

    fn ask<T>(&self, order: impl FnOnce(SyncSender<T>) -> Order) -> Result<T, DeviceError> {
        let (answer, answered) = sync_channel(1);
        self.order(order(answer))?;
        answered
            .recv_timeout(ANSWER_TIMEOUT)
            .map_err(|_| DeviceError::Silent)
    }

    /// Serves a ring from now on. See [`Card::start_ring`].
    ///
    /// # Errors
    /// The ring is refused, or the thread does not answer.
    pub fn start_ring(
        &self,
        queue: usize,
        setup: Setup,
        memory: Arc<Memory>,
    ) -> Result<(), DeviceError> {
        Ok(self.ask(|answer| Order::Start(queue, setup, memory, answer))??)
    }

    /// Stops serving a ring. See [`Card::stop_ring`].
    ///
    /// # Errors
    /// The thread does not answer.
    pub fn stop_ring(&self, queue: usize) -> Result<Option<u16>, DeviceError> {
        self.ask(|answer| Order::Stop(queue, answer))
    }

    /// Enables or disables a ring.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn enable_ring(&self, queue: usize, enabled: bool) -> Result<(), DeviceError> {
        self.order(Order::Enable(queue, enabled))
    }

    /// Replaces the eventfd by which a ring's driver is interrupted.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn set_call(&self, queue: usize, call: Option<File>) -> Result<(), DeviceError> {
        self.order(Order::Call(queue, call))
    }

    /// Tells the card which of its own features the driver has accepted.
    ///
    /// # Errors
    /// The thread is gone.
    pub fn accept_features(&self, features: u64) -> Result<(), DeviceError> {
        self.order(Order::Features(features))
    }

    /// Replaces the memory under the rings in service.
    ///
    /// # Errors
    /// The thread does not answer.
    pub fn set_memory(&self, memory: Arc<Memory>) -> Result<(), DeviceError> {
        self.ask(|answer| Order::Memory(memory, answer))
    }

    /// Has the card write down what the next process needs. See [`Card::set_area`].
    ///
    /// # Errors
    /// The thread does not answer.
    pub fn set_area(&self, area: Area) -> Result<(), DeviceError> {
        self.ask(|answer| Order::Area(area, answer))
    }

    /// Resets the card.
    ///
    /// # Errors
    /// The thread does not answer.
    pub fn reset(&self) -> Result<(), DeviceError> {
        self.ask(Order::Reset)
    }

    /// Has the card take note of news, and tell its driver. See [`Card::tell`].
    ///
    /// # Errors
    /// The thread does not answer.
    pub fn tell(&self, notice: Notice) -> Result<(), DeviceError> {
        self.ask(|answer| Order::Tell(notice, answer))
    }

    /// How the card is, written into `room`: the audio thread allocates nothing.
    ///
    /// # Errors
    /// The thread does not answer.
    pub fn status(&self, room: CardStatus) -> Result<CardStatus, DeviceError> {
        self.ask(|answer| Order::Status(room, answer))
    }
}

impl Drop for Device {
    /// Stops all streams, which brings files and cards into order, and waits for the thread.
    fn drop(&mut self) {
        if self.order(Order::Shutdown).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn run(mut card: Card, orders: &mut Consumer<Order>, wake: &EventFd) {
    let (mut stint, mut before, mut up) = (Stint::default(), 0, now());
    let used = || read(ClockId::CLOCK_THREAD_CPUTIME_ID);
    loop {
        if let Some(rest) = stint.rest(before, up, used) {
            std::thread::sleep(Duration::from_nanos(rest));
        }
        let start = now();
        let deadline = if card.serve(start) {
            Some(start)
        } else {
            card.deadline(start)
        };
        before = now();
        let woken = sleep(&mut card, wake, deadline, before);
        up = now();
        if woken {
            let _ = wake.read();
            // Not without end: who asks again and again does not stop the sound.
            for order in (0..ORDERS).map_while(|_| orders.pop().ok()) {
                if matches!(order, Order::Shutdown) {
                    return end(&mut card);
                }
                carry_out(&mut card, order);
            }
            if !orders.is_empty() {
                let _ = wake.write(1);
            }
            if orders.is_abandoned() {
                return end(&mut card);
            }
        }
    }
}

/// Stops all streams. For the process that comes next they are as they were.
fn end(card: &mut Card) {
    card.let_go();
    card.reset(now());
}

fn carry_out(card: &mut Card, order: Order) {
    let now = now();
    // An answer that nobody waits for any more is dropped.
    match order {
        Order::Start(queue, setup, memory, answer) => {
            let _ = answer.send(card.start_ring(queue, setup, &memory, now));
        }
        Order::Stop(queue, answer) => {
            let _ = answer.send(card.stop_ring(queue, now));
        }
        Order::Enable(queue, enabled) => card.enable_ring(queue, enabled),
        Order::Call(queue, call) => card.set_call(queue, call),
        Order::Features(features) => card.accept_features(features),
        Order::Memory(memory, answer) => {
            card.set_memory(memory);
            let _ = answer.send(());
        }
        Order::Area(area, answer) => {
            card.set_area(area, now);
            let _ = answer.send(());
        }
        Order::Reset(answer) => {
            card.rings = Default::default();
            card.reset(now);
            let _ = answer.send(());
        }
        Order::Tell(notice, answer) => {
            card.tell(notice);
            let _ = answer.send(());
        }
        Order::Status(mut status, answer) => {
            card.describe(&mut status, now);
            let _ = answer.send(status);
        }
        Order::Shutdown => {}
    }
}

/// Sleeps from `now` until a kick, `deadline` or an order. Returns whether there is an order.
pub fn sleep(card: &mut Card, wake: &EventFd, deadline: Option<Nanos>, now: Nanos) -> bool {
    let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
    // Orders first; then the queues whose driver is to kick, and no other, for the kernel goes to
    // each descriptor and back; then as many of the host's own as there is room for.
    let mut polled: [_; 1 + QUEUES + WAKERS] = std::array::from_fn(|_| readable(wake.as_fd()));
    let (mut used, mut kicks) = (1, [None; QUEUES]);
    for (kick, ring) in kicks.iter_mut().zip(&card.rings) {
        if let Some(fd) = ring.as_ref().and_then(Ring::kick)
            && let Some(place) = polled.get_mut(used)
        {
            *place = readable(fd.as_fd());
            *kick = Some(used);
            used += 1;
        }
    }
    card.host.wakers(&mut |fd, flags| {
        if let Some(place) = polled.get_mut(used) {
            *place = PollFd::new(fd, flags);
            used += 1;
        }
    });
    let polled = polled.get_mut(..used).unwrap_or_default();
    let timeout = deadline.map(|deadline| {
        TimeSpec::from_duration(Duration::from_nanos(deadline.saturating_sub(now)))
    });
    let result = ppoll(polled, timeout, None);
    let ready = |place: usize| {
        let fd = polled.get(place);
        fd.is_some_and(|fd| fd.any().unwrap_or(false))
    };
    let (order, kicked) = (ready(0), kicks.map(|place| place.is_some_and(ready)));
    for (ring, _) in card
        .rings
        .iter_mut()
        .zip(kicked)
        .filter(|(_, kicked)| *kicked)
    {
        ring.iter_mut().for_each(Ring::clear_kick);
    }
    if let Err(error) = result
        && error != Errno::EINTR
    {
        card.report(Report::PollFailed(error.into()));
        // Nothing can be waited for; a tight loop would not help. There may be an order.
        std::thread::sleep(Duration::from_millis(10));
        return true;
    }
    order
}
