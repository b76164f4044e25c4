// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Cards described in TOML files. The manual page has a section on the format.
//!
//! Nothing is ignored: a key that is not known, a value that cannot be meant and two things that
//! contradict each other are refused with the line where they are.

mod elements;
mod hosts;
mod process;
mod streams;
mod tables;

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::description::{self, Description};
use tables::{CardTable, Controls};

/// Most streams, jacks and control elements of a card: more than any driver has use for.
const MAX_ITEMS: usize = 128;

/// Why a card file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CardFileError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{path}:{line}: {what}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong, and what is allowed.
        what: String,
    },
}

/// Something wrong, and the bytes of the file where it is.
#[derive(Debug)]
pub(crate) struct Fault {
    at: Range<usize>,
    what: String,
}

impl Fault {
    fn new(at: Range<usize>, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { at, what }
    }
}

/// Reads the card in this file. Relative paths in it start at the file's folder.
///
/// # Errors
/// The file cannot be read, or something in it is wrong.
pub fn load(path: &Path) -> Result<Description, CardFileError> {
    let text = std::fs::read_to_string(path).map_err(|source| CardFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text, path).map_err(|fault| CardFileError::Wrong {
        path: path.to_owned(),
        line: line_at(&text, fault.at.start),
        what: fault.what,
    })
}

/// Number of the line with this byte, from 1.
fn line_at(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|&&byte| byte == b'\n').count()
}

/// Reads the card in this text, which is that of the file at `path`.
pub(crate) fn parse(text: &str, path: &Path) -> Result<Description, Fault> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let card: CardTable = toml::from_str(text).map_err(|error| Fault {
        at: error.span().unwrap_or(text.len()..text.len()),
        what: error.message().replace('\n', ", "),
    })?;
    let (streams, ranges) = streams::check(&card.stream, folder)?;
    let place = |at| format!("{}:{}", path.display(), line_at(text, at));
    let process = card
        .process
        .as_ref()
        .map(|table| process::check(table, place));
    let jacks = elements::jacks(&card.jack)?;
    let controls = match (&card.controls, card.control.as_slice()) {
        (Some(choice), [_, ..]) => {
            let what = "`controls` chooses what a card without [[control]] tables has; \
                        this one has such tables: remove one or the other";
            return Err(Fault::new(choice.span(), what));
        }
        (Some(choice), []) if *choice.get_ref() == Controls::None => Vec::new(),
        (_, []) => description::usual_controls(&streams),
        (None, tables) => elements::controls(tables, &streams, &ranges)?,
    };
    Ok(Description {
        streams,
        jacks,
        controls,
        process: process.transpose()?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
