// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Orders of the audio thread to a thread that may wait. Giving one never waits; of a stream whose
//! orders find no room, the last is given later.

use std::io;
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};
use rtrb::{Consumer, Producer, PushError, RingBuffer};

use crate::alarm::Alarm;

/// Orders of a stream that may wait.
const PER_STREAM: usize = 16;

/// The audio thread's end. When it goes, the other thread is woken, and finds its end abandoned.
pub struct Orders<T> {
    queue: Producer<T>,
    /// For each stream, the order that there was no room for: the last one, which makes those before it void.
    late: Vec<Option<T>>,
    // Goes last: the thread finds the queue abandoned.
    alarm: Alarm,
}

/// The other thread's end.
pub struct Received<T> {
    /// The orders.
    pub queue: Consumer<T>,
    /// Readable when there are some.
    pub bell: Arc<EventFd>,
}

/// Both ends, for a number of streams.
///
/// # Errors
/// The system gives no eventfd.
pub fn orders<T>(streams: usize) -> io::Result<(Orders<T>, Received<T>)> {
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
    let bell = Arc::new(EventFd::from_value_and_flags(0, flags)?);
    Ok(with_room(PER_STREAM * streams, streams, bell))
}

fn with_room<T>(room: usize, streams: usize, bell: Arc<EventFd>) -> (Orders<T>, Received<T>) {
    let (queue, received) = RingBuffer::new(room);
    let orders = Orders {
        queue,
        late: (0..streams).map(|_| None).collect(),
        alarm: Alarm(Arc::clone(&bell)),
    };
    let received = Received {
        queue: received,
        bell,
    };
    (orders, received)
}

impl<T> Orders<T> {
    /// Gives an order for a stream, or keeps it where there is no room: a driver has changed its mind many
    /// times within a moment.
    pub fn give(&mut self, stream: usize, order: T) {
        let late = self.try_give(order);
        if let Some(place) = self.late.get_mut(stream) {
            *place = late;
        }
    }

    /// Gives an order, or returns it where there is no room.
    pub fn try_give(&mut self, order: T) -> Option<T> {
        let given = self.queue.push(order);
        self.alarm.ring();
        given.err().map(|PushError::Full(order)| order)
    }

    /// Gives what there was no room for.
    pub fn give_late(&mut self) {
        for stream in 0..self.late.len() {
            if let Some(order) = self.late.get_mut(stream).and_then(Option::take) {
                self.give(stream, order);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_order_of_a_stream_is_given_once_there_is_room() {
        let bell = Arc::new(EventFd::new().unwrap());
        let (mut orders, mut received) = with_room(1, 2, bell);
        orders.give(0, "open");
        orders.give(0, "close");
        orders.give(0, "open again");
        assert_eq!(received.queue.pop(), Ok("open"));
        orders.give_late();
        assert_eq!(received.queue.pop(), Ok("open again"));
        orders.give_late();
        assert!(received.queue.pop().is_err());
    }

    #[test]
    fn the_other_thread_is_woken_and_finds_its_end_abandoned() {
        let (orders, mut received) = super::orders::<u8>(1).unwrap();
        assert!(received.bell.read().is_err());
        drop(orders);
        assert!(received.bell.read().is_ok() && received.queue.is_abandoned());
        assert!(received.queue.pop().is_err());
    }
}
