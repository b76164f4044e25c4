// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The line between the audio thread and a mixer's worker, for one element: the newest values either
//! way, without a lock, a queue or an allocation. Whoever reads twice as fast as the other writes
//! misses nothing but values that were replaced already.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nix::sys::eventfd::EventFd;

/// One element's line. Values count from 0, as the driver sees them.
pub struct Line {
    /// How often the audio thread has asked for other values, and for which.
    asked: AtomicU32,
    wanted: Vec<AtomicU32>,
    /// Up to which of these requests the worker's values are from.
    answered: AtomicU32,
    found: Vec<AtomicU32>,
    fresh: AtomicBool,
    /// Wakes the worker.
    worker: Arc<EventFd>,
}

fn cells(values: &[u32]) -> Vec<AtomicU32> {
    values.iter().map(|&value| AtomicU32::new(value)).collect()
}

fn put(cells: &[AtomicU32], values: &[u32]) {
    for (cell, &value) in cells.iter().zip(values) {
        cell.store(value, Ordering::Relaxed);
    }
}

fn get(cells: &[AtomicU32]) -> impl Iterator<Item = u32> {
    cells.iter().map(|cell| cell.load(Ordering::Relaxed))
}

impl Line {
    /// A line on which both ends know `values`.
    pub fn new(values: &[u32], worker: Arc<EventFd>) -> Self {
        Self {
            asked: AtomicU32::new(0),
            wanted: cells(values),
            answered: AtomicU32::new(0),
            found: cells(values),
            fresh: AtomicBool::new(false),
            worker,
        }
    }

    /// The audio thread: has the real card take these values.
    pub fn ask(&self, values: &[u32]) {
        put(&self.wanted, values);
        self.asked.fetch_add(1, Ordering::Release);
        // The counter is full only if the worker has been woken already.
        let _ = self.worker.write(1);
    }

    /// The audio thread: the real card's values, if they are news. Those from before the last
    /// request are none: its answer will come.
    pub fn news(&self) -> Option<impl Iterator<Item = u32>> {
        if !self.fresh.load(Ordering::Relaxed) || !self.fresh.swap(false, Ordering::Acquire) {
            return None;
        }
        let asked = self.asked.load(Ordering::Relaxed);
        (self.answered.load(Ordering::Relaxed) == asked).then(|| get(&self.found))
    }

    /// The worker: the values of a request later than `done`, and its number.
    pub fn request(&self, done: u32) -> Option<(u32, Vec<u32>)> {
        let asked = self.asked.load(Ordering::Acquire);
        (asked != done).then(|| (asked, get(&self.wanted).collect()))
    }

    /// The worker: tells the real card's values after it has carried out requests up to `done`.
    pub fn tell(&self, done: u32, values: &[u32]) {
        put(&self.found, values);
        self.answered.store(done, Ordering::Relaxed);
        self.fresh.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line::new(&[1, 2], Arc::new(EventFd::new().unwrap()))
    }

    fn news(line: &Line) -> Option<Vec<u32>> {
        line.news().map(Iterator::collect)
    }

    #[test]
    fn the_newest_request_is_the_one_that_counts() {
        let line = line();
        assert_eq!(line.request(0), None);
        line.ask(&[3, 4]);
        line.ask(&[5, 6]);
        assert_eq!(line.request(0), Some((2, vec![5, 6])));
        assert_eq!(line.request(2), None);
    }

    #[test]
    fn news_come_once() {
        let line = line();
        assert_eq!(news(&line), None);
        line.tell(0, &[7, 8]);
        assert_eq!(news(&line), Some(vec![7, 8]));
        assert_eq!(news(&line), None);
    }

    #[test]
    fn values_from_before_a_request_are_no_news() {
        let line = line();
        line.ask(&[3, 4]);
        line.tell(0, &[7, 8]);
        assert_eq!(news(&line), None);
        line.tell(1, &[3, 4]);
        assert_eq!(news(&line), Some(vec![3, 4]));
    }
}
