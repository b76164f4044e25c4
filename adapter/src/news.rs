// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What is to be logged, but not now: whoever reads the log may be slow, and sound waits.

use log::Level;

/// Lines for the log, in their order.
#[derive(Debug, Default)]
pub struct News {
    lines: Vec<(Level, String)>,
}

impl News {
    /// Something to be told later.
    pub fn add(&mut self, level: Level, text: String) {
        self.lines.push((level, text));
    }

    /// Whether there is nothing to be told.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Tells it.
    pub fn tell(&mut self) {
        for (level, text) in self.lines.drain(..) {
            log::log!(level, "{text}");
        }
    }
}
