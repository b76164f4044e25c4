// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a fuzzer does with its input: one function for each target of `fuzz/`. The tests walk the
//! same functions over the corpora. Nothing of this is in the program.
//!
//! Each ends in a panic where the device does what it never may, whatever the input.

mod driver;
mod frontend;
#[cfg(fuzzing)]
pub mod record;
#[cfg(test)]
mod tests;
mod text;

pub use driver::{control, events, transfer};
pub use frontend::vhost_user_device;
pub use text::{card_file, command_socket, wav};

use crate::description::Description;

/// A card with two streams, the usual controls and a jack, all without hardware.
fn description() -> Description {
    let text = "[[stream]]\ndirection = 'playback'\nhost = 'null'\n\
                [[stream]]\ndirection = 'capture'\nhost = 'null'\n\
                [[jack]]\nkind = 'headphone'\n";
    text::parsed(text).unwrap_or_default()
}

/// Bytes that are used up from the front. Behind their end, everything is 0.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, left) = self.0.split_at(count.min(self.0.len()));
        self.0 = left;
        taken
    }

    fn number<const N: usize>(&mut self) -> [u8; N] {
        let mut number = [0; N];
        for (to, from) in number.iter_mut().zip(self.bytes(N)) {
            *to = *from;
        }
        number
    }

    fn byte(&mut self) -> u8 {
        u8::from_le_bytes(self.number())
    }

    fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.number())
    }
}
