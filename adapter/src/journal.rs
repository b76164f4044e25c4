// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The log as a service manager's journal likes it: each line starts with its priority, `<N>` as in
//! syslog.

use std::env;
use std::io::{self, Write};

use log::{Level, Record};
use nix::sys::stat::fstat;

/// Whether the standard error output of this process is the journal: systemd says which file that is.
pub fn is_there() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else {
        return false;
    };
    let here = fstat(io::stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    here == Ok(stream)
}

/// Writes a line of the log.
///
/// # Errors
/// The journal is gone.
pub fn write(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let priority = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let text = record.args().to_string();
    text.lines()
        .try_for_each(|line| writeln!(out, "<{priority}>{line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_priority() {
        let mut written = Vec::new();
        for (level, text) in [(Level::Warn, "two\nlines"), (Level::Info, "one")] {
            let mut record = Record::builder();
            record.level(level);
            write(&mut written, &record.args(format_args!("{text}")).build()).unwrap();
        }
        assert_eq!(written, b"<4>two\n<4>lines\n<6>one\n");
    }
}
