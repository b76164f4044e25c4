// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The thread of a stream that speaks with GStreamer, which may wait for whatever it likes. A pipeline that
//! fails is said to, once, and tried again after a while; meanwhile sound is silence.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use rtrb::{Consumer, Producer};

use super::super::HostError;
use super::work::Work;
use crate::stream::Params;
use crate::wire::Direction;

/// How long a stream waits for an answer: less than a driver waits for the device, which is a second
/// in Linux.
const PATIENCE: Duration = Duration::from_millis(800);
/// How long the end of the program waits for a pipeline to end.
const LAST_PATIENCE: Duration = Duration::from_secs(8);

/// The ring between a stream and its pipeline.
pub enum Ring {
    /// What is played comes out of it.
    Play(Consumer<u8>),
    /// What is captured goes into it.
    Capture(Producer<u8>),
}

/// What a stream orders.
pub enum Order {
    /// Play the pipeline with these parameters. For capture, the answer comes with the first sound.
    Open(Params, Ring, SyncSender<()>),
    /// Sound runs.
    Run,
    /// Sound stands; what was played should be in the pipeline.
    Settle(SyncSender<()>),
    /// End the pipeline.
    Close(SyncSender<()>),
}

/// What a stream may look at, at any time.
#[derive(Default)]
pub struct Signs {
    /// What is captured comes only while time passes.
    pub live: AtomicBool,
    /// A pipeline that had failed plays again.
    pub returned: AtomicBool,
}

/// The stream's end of the thread.
pub struct Worker {
    orders: Option<Sender<Order>>,
    faults: Receiver<HostError>,
    ended: Receiver<()>,
    /// What it shows.
    pub signs: Arc<Signs>,
}

impl Worker {
    /// Starts the thread of a stream; `failing` where the pipeline is known to fail now.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(description: &str, direction: Direction, failing: bool) -> io::Result<Self> {
        let (orders, received) = channel();
        let (told, faults) = sync_channel(1);
        let (ending, ended) = sync_channel(1);
        let signs = Arc::new(Signs::default());
        let mut work = Work::new(description, direction, failing, told, Arc::clone(&signs));
        std::thread::Builder::new()
            .name("gstreamer".to_owned())
            .spawn(move || {
                work.run(&received);
                let _ = ending.send(());
            })?;
        Ok(Self {
            orders: Some(orders),
            faults,
            ended,
            signs,
        })
    }

    /// Gives an order.
    pub fn order(&self, order: Order) {
        // The thread lives as long as this.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }

    /// Gives an order, and waits until it has been carried out, or for too long: then it goes on by
    /// itself.
    pub fn ask(&self, order: impl FnOnce(SyncSender<()>) -> Order) {
        let (answer, answered) = sync_channel(1);
        self.order(order(answer));
        let _ = answered.recv_timeout(PATIENCE);
    }

    /// What went wrong since the last call.
    pub fn fault(&self) -> Option<HostError> {
        self.faults.try_recv().ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.orders = None;
        // A pipeline that never ends keeps nobody.
        let _ = self.ended.recv_timeout(LAST_PATIENCE);
    }
}
