// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files and commands.

use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Weak;
use std::time::Duration;

use crate::audio::wav::{self as format};
use crate::card_file as cards;
use crate::command::{Reply, server};
use crate::description::{self, Description};
use crate::sandbox::Needs;

/// A WAV file to be captured. What is found in it can be written and read again.
pub fn wav(input: &[u8]) {
    let Ok((layout, samples)) = format::parse(input) else {
        return;
    };
    assert!(samples.len() <= input.len());
    assert_eq!(samples.len() % layout.frame_bytes() as usize, 0);
    let header = format::header(layout, samples.len() as u64);
    let mut file = header.map(Vec::from).unwrap_or_default();
    file.extend(samples);
    assert_eq!(format::parse(&file), Ok((layout, samples)));
}

/// A card in a file's text.
pub fn parsed(text: &str) -> Option<Description> {
    cards::parse(text, Path::new("/nowhere/card.toml")).ok()
}

/// A card file. What is accepted can be named, and its needs are known.
pub fn card_file(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    if let Some(card) = parsed(text) {
        assert_eq!(description::labels(&card.streams).len(), card.streams.len());
        assert_eq!(description::written_twice(&card.streams), None);
        let _ = Needs::of(&card);
    }
}

/// A client of the command socket. Each line that comes back is a reply.
pub fn command_socket(input: &[u8]) {
    let Ok((mut ours, theirs)) = UnixStream::pair() else {
        return;
    };
    // What is not read must fit into the socket; where the replies do not, the client is dropped.
    let input = input.get(..2048).unwrap_or(input);
    let _ = theirs.set_write_timeout(Some(Duration::from_millis(10)));
    if ours.write_all(input).is_err() || ours.shutdown(Shutdown::Write).is_err() {
        return;
    }
    server::talk(&theirs, Weak::new(), super::description());
    drop(theirs);
    let mut replies = BufReader::new(ours);
    let mut line = String::new();
    while replies.read_line(&mut line).is_ok() && line.ends_with('\n') {
        let reply = serde_json::from_str::<Reply>(&line);
        assert!(reply.is_ok(), "no reply: {line}");
        line.clear();
    }
}
