// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The thread that writes files. The audio thread never waits for a disk while sound runs. It waits when
//! a stream is prepared or stopped, and not for long: what has been accepted is in the file then.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rtrb::Consumer;

use super::super::HostError;
use super::recording::Recording;
use crate::stream::Params;

/// How often it looks for samples while a file is open.
const PACE: Duration = Duration::from_millis(100);
/// How long a stream that is prepared or stopped waits for its file: less than a driver waits for the
/// device, which is a second in Linux.
const PATIENCE: Duration = Duration::from_millis(800);

/// What a stream orders for its recording, which it names by its place.
pub enum Order {
    /// There is one more recording.
    Add(Box<Recording>),
    /// The files that are there stay as they are.
    Inherit(usize),
    /// Samples with these parameters will come out of the ring. Those of an earlier ring come first.
    Open(
        usize,
        Params,
        Consumer<u8>,
        SyncSender<Result<(), HostError>>,
    ),
    /// What has been played should be in the file.
    Settle(usize, SyncSender<()>),
}

/// The thread; it ends with the last of its streams, when all that was played has been written.
pub struct Disk {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start() -> io::Result<Arc<Self>> {
        let (orders, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || run(&receiver))?;
        Ok(Arc::new(Self {
            orders: Some(orders),
            thread: Some(thread),
        }))
    }

    /// A thread played by a test.
    #[cfg(test)]
    pub fn played_by_test() -> (Arc<Self>, Receiver<Order>) {
        let (orders, receiver) = channel();
        let disk = Self {
            orders: Some(orders),
            thread: None,
        };
        (Arc::new(disk), receiver)
    }

    /// Gives an order.
    pub fn order(&self, order: Order) {
        // The thread lives as long as this.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }

    /// Gives an order and waits for the answer; `None` where the disk takes too long.
    pub fn ask<T>(&self, order: impl FnOnce(SyncSender<T>) -> Order) -> Option<T> {
        let (answer, answered) = sync_channel(1);
        self.order(order(answer));
        answered.recv_timeout(PATIENCE).ok()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn run(orders: &Receiver<Order>) {
    let mut recordings: Vec<Recording> = Vec::new();
    loop {
        let order = if recordings.iter().any(Recording::is_open) {
            orders.recv_timeout(PACE)
        } else {
            orders.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match order {
            Ok(order) => carry_out(&mut recordings, order),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return recordings.iter_mut().for_each(Recording::settle);
            }
        }
        recordings.iter_mut().for_each(Recording::write);
    }
}

fn carry_out(recordings: &mut Vec<Recording>, order: Order) {
    // An answer that nobody waits for any more is dropped.
    match order {
        Order::Add(recording) => recordings.push(*recording),
        Order::Inherit(place) => {
            if let Some(recording) = recordings.get_mut(place) {
                recording.inherit();
            }
        }
        Order::Open(place, params, samples, answer) => {
            if let Some(recording) = recordings.get_mut(place) {
                let _ = answer.send(recording.open(&params, samples));
            }
        }
        Order::Settle(place, answer) => {
            if let Some(recording) = recordings.get_mut(place) {
                recording.settle();
                let _ = answer.send(());
            }
        }
    }
}
