// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A log that a peer cannot fill, and whose reader keeps nobody waiting: whatever a driver, a frontend or a
//! client does again and again, there are some lines of it, and then how many were left out, like those for
//! which the log had no room.

use std::collections::HashMap;
use std::io::stderr;
use std::mem::take;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Lines of one kind in each [`SPAN`]: enough for one of each stream of a card.
const LINES: u32 = 128;
/// See [`LINES`].
const SPAN: Duration = Duration::from_secs(60);

/// What lines of one kind have in common: the place in the source that writes them.
type Kind = (Option<&'static str>, Option<u32>);

/// What is left for lines of one kind.
struct Budget {
    since: Instant,
    written: u32,
    left_out: u64,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is written; so many before it were not.
    Written(u64),
    /// It is written, and is the last one for a while.
    Last,
    /// It is left out.
    LeftOut,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            written: 0,
            left_out: 0,
        }
    }

    fn spend(&mut self, now: Instant) -> Verdict {
        if now.duration_since(self.since) >= SPAN {
            (self.since, self.written) = (now, 0);
        }
        if self.written == LINES {
            self.left_out += 1;
            return Verdict::LeftOut;
        }
        self.written += 1;
        match self.written {
            LINES => Verdict::Last,
            _ => Verdict::Written(take(&mut self.left_out)),
        }
    }
}

/// Limits the warnings and errors of `log`; what is told with `-v` alone has no limit.
pub struct LogLimit<L> {
    log: L,
    has_room: fn() -> bool,
    budgets: Mutex<HashMap<Kind, Budget>>,
}

impl<L: Log> LogLimit<L> {
    /// Nothing has been written yet. `log` writes to standard error.
    pub fn new(log: L) -> Self {
        Self {
            log,
            has_room: stderr_has_room,
            budgets: Mutex::default(),
        }
    }

    fn say(&self, metadata: &Metadata<'_>, words: std::fmt::Arguments<'_>) {
        let mut record = Record::builder();
        record.metadata(metadata.clone());
        self.log.log(&record.args(words).build());
    }
}

/// Whether a line can be written now. What poll() knows nothing of, can.
fn stderr_has_room() -> bool {
    let stderr = stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO) != Ok(0)
}

impl<L: Log> Log for LogLimit<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.log.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let metadata = record.metadata();
        if !self.enabled(metadata) {
            return;
        }
        let now = Instant::now();
        // Until the line is written: the room that was found is for this thread.
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = budgets.entry((record.file_static(), record.line()));
        let budget = budget.or_insert_with(|| Budget::new(now));
        let verdict = match record.level() > Level::Warn {
            _ if !(self.has_room)() => {
                budget.left_out += 1;
                Verdict::LeftOut
            }
            true => Verdict::Written(take(&mut budget.left_out)),
            false => budget.spend(now),
        };
        match verdict {
            Verdict::LeftOut => return,
            Verdict::Written(left_out) if left_out > 0 => {
                self.say(
                    metadata,
                    format_args!("{left_out} lines like the next were left out"),
                );
            }
            _ => {}
        }
        self.log.log(record);
        if verdict == Verdict::Last {
            self.say(
                metadata,
                format_args!("more lines like this are left out for a while"),
            );
        }
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
        use Verdict::{Last, LeftOut, Written};
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut spend = |seconds| budget.spend(start + Duration::from_secs(seconds));
        for _ in 1..LINES {
            assert_eq!(spend(0), Written(0));
        }
        assert_eq!(
            [0, 0, 1, 59].map(&mut spend),
            [Last, LeftOut, LeftOut, LeftOut]
        );
        // What was left out is told once.
        assert_eq!([60, 60].map(&mut spend), [Written(3), Written(0)]);
        for _ in 3..LINES {
            assert_eq!(spend(119), Written(0));
        }
        assert_eq!([119, 119, 120].map(spend), [Last, LeftOut, Written(1)]);
    }

    /// Keeps what it is told.
    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Log for Kept {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() != "off"
        }

        fn log(&self, record: &Record<'_>) {
            self.0.lock().unwrap().push(record.args().to_string());
        }

        fn flush(&self) {}
    }

    fn say(limit: &LogLimit<Kept>, level: Level, line: u32, target: &str) {
        let mut record = Record::builder();
        let record = record.level(level).target(target);
        let record = record.file_static(Some("x.rs")).line(Some(line));
        limit.log(&record.args(format_args!("{line}")).build());
    }

    fn told(limit: &LogLimit<Kept>) -> Vec<String> {
        take(&mut *limit.log.0.lock().unwrap())
    }

    #[test]
    fn warnings_of_one_place_are_limited_and_what_was_left_out_is_told() {
        let limit = LogLimit::new(Kept::default());
        for _ in 0..LINES + 5 {
            say(&limit, Level::Warn, 1, "on");
            say(&limit, Level::Error, 2, "on");
            say(&limit, Level::Info, 3, "on");
            say(&limit, Level::Warn, 4, "off");
        }
        let before = told(&limit);
        let count = |line: &str| before.iter().filter(|told| *told == line).count();
        let (lines, all) = (LINES as usize, LINES as usize + 5);
        assert_eq!(["1", "2", "3", "4"].map(count), [lines, lines, all, 0]);
        assert_eq!(count("more lines like this are left out for a while"), 2);
        for budget in limit.budgets.lock().unwrap().values_mut() {
            budget.since -= SPAN;
        }
        say(&limit, Level::Warn, 1, "on");
        say(&limit, Level::Warn, 4, "off");
        assert_eq!(told(&limit), ["5 lines like the next were left out", "1"]);
    }

    #[test]
    fn a_log_without_room_keeps_nobody_waiting() {
        let mut limit = LogLimit::new(Kept::default());
        limit.has_room = || false;
        for level in [Level::Error, Level::Warn, Level::Info] {
            say(&limit, level, 1, "on");
        }
        assert!(told(&limit).is_empty());
        limit.has_room = || true;
        say(&limit, Level::Info, 1, "on");
        assert_eq!(told(&limit), ["3 lines like the next were left out", "1"]);
    }
}
