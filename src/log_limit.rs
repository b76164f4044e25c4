// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A log that a peer cannot fill: whatever a driver, a frontend or a client does again and again, there are a few
//! lines of it, and then how many were left out.

use std::collections::HashMap;
use std::mem::take;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, Log, Metadata, Record};

/// Lines of one kind in each [`SPAN`].
const LINES: u32 = 10;
/// See [`LINES`].
const SPAN: Duration = Duration::from_secs(10);

/// What lines of one kind have in common: the place in the source that writes them.
type Kind = (Option<&'static str>, Option<u32>);

/// What is left for lines of one kind.
struct Budget {
    since: Instant,
    written: u32,
    left_out: u64,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            written: 0,
            left_out: 0,
        }
    }

    /// Whether a line is written: if so, how many before it were not.
    fn spend(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.since) >= SPAN {
            (self.since, self.written) = (now, 0);
        }
        if self.written == LINES {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(take(&mut self.left_out))
    }
}

/// Limits the warnings and errors of `log`. What is told with `-v` alone has no limit.
pub struct LogLimit<L> {
    log: L,
    budgets: Mutex<HashMap<Kind, Budget>>,
}

impl<L: Log> LogLimit<L> {
    /// Nothing has been written yet.
    pub fn new(log: L) -> Self {
        let budgets = Mutex::default();
        Self { log, budgets }
    }

    fn spend(&self, kind: Kind) -> Option<u64> {
        let now = Instant::now();
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = budgets.entry(kind).or_insert_with(|| Budget::new(now));
        budget.spend(now)
    }
}

impl<L: Log> Log for LogLimit<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.log.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() > Level::Warn || !self.enabled(record.metadata()) {
            return self.log.log(record);
        }
        let Some(left_out) = self.spend((record.file_static(), record.line())) else {
            return;
        };
        if left_out > 0 {
            let mut more = Record::builder();
            more.metadata(record.metadata().clone());
            let words = format_args!("{left_out} lines like the next were left out");
            self.log.log(&more.args(words).build());
        }
        self.log.log(record);
    }

    fn flush(&self) {
        self.log.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_and_comes_back() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut spend = |seconds| budget.spend(start + Duration::from_secs(seconds));
        for _ in 0..LINES {
            assert_eq!(spend(0), Some(0));
        }
        assert_eq!([0, 1, 9].map(&mut spend), [None; 3]);
        // What was left out is told once.
        assert_eq!([10, 10].map(&mut spend), [Some(3), Some(0)]);
        for _ in 2..LINES {
            assert_eq!(spend(19), Some(0));
        }
        assert_eq!([19, 20].map(spend), [None, Some(1)]);
    }

    /// Keeps what it is told.
    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Log for Kept {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() != "off"
        }

        fn log(&self, record: &Record<'_>) {
            if self.enabled(record.metadata()) {
                self.0.lock().unwrap().push(record.args().to_string());
            }
        }

        fn flush(&self) {}
    }

    #[test]
    fn warnings_of_one_place_are_limited_and_what_was_left_out_is_told() {
        let limit = LogLimit::new(Kept::default());
        let say = |level, line, target| {
            let mut record = Record::builder();
            let record = record.level(level).target(target);
            let record = record.file_static(Some("x.rs")).line(Some(line));
            limit.log(&record.args(format_args!("{line}")).build());
        };
        let told = || take(&mut *limit.log.0.lock().unwrap());
        for _ in 0..LINES + 5 {
            say(Level::Warn, 1, "on");
            say(Level::Error, 2, "on");
            say(Level::Info, 3, "on");
            say(Level::Warn, 4, "off");
        }
        let told_before = told();
        let count = |line: &str| told_before.iter().filter(|told| *told == line).count();
        let (lines, all) = (LINES as usize, LINES as usize + 5);
        assert_eq!(["1", "2", "3", "4"].map(count), [lines, lines, all, 0]);
        for budget in limit.budgets.lock().unwrap().values_mut() {
            budget.since -= SPAN;
        }
        say(Level::Warn, 1, "on");
        say(Level::Warn, 4, "off");
        assert_eq!(told(), ["5 lines like the next were left out", "1"]);
    }
}
