// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The log as a service manager's journal likes it: each line starts with its priority, `<N>` as in
//! syslog, and has no time, which the journal knows.

use std::env;
use std::io::{self, Write};

use log::{Level, Record};
use nix::sys::stat::fstat;

/// The priority of what ends the program.
const FATAL: u8 = 3;

/// Whether the standard error output of this process is the journal: systemd says which file that is.
pub fn is_there() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    let here = fstat(io::stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    here == Ok(stream)
}

fn priority(level: Level) -> u8 {
    match level {
        Level::Error => FATAL,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// Writes a line of the log.
///
/// # Errors
/// The journal is gone.
pub fn write(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    put(out, priority(record.level()), &record.args().to_string())
}

/// Writes why the program ends, as far as that is possible.
pub fn write_error(error: &dyn std::error::Error) {
    let _ = put(&mut io::stderr(), FATAL, &error.to_string());
}

/// Each line of a text is one of the journal.
fn put(out: &mut impl Write, priority: u8, text: &str) -> io::Result<()> {
    text.lines()
        .try_for_each(|line| writeln!(out, "<{priority}>{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_priority() {
        let mut written = Vec::new();
        for (level, text) in [(Level::Warn, "two\nlines"), (Level::Trace, "one")] {
            let mut record = Record::builder();
            record.level(level);
            write(&mut written, &record.args(format_args!("{text}")).build()).unwrap();
        }
        assert_eq!(written, b"<4>two\n<4>lines\n<7>one\n");
        let levels = [Level::Error, Level::Info, Level::Debug];
        assert_eq!(levels.map(priority), [3, 6, 7]);
    }
}
