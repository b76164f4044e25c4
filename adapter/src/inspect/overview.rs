// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The table of all devices: a line for each stream, and what it goes through now.

use comfy_table::{Attribute, Cell, CellAlignment, Color};

use super::meter::{Loudness, meter};
use super::report::Report;
use super::stream::Stream;
use super::tables::{render, table};
use crate::driver::State;

/// Columns that fit.
type Columns<'a> = Vec<&'a Column>;

/// How a table is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// With colours.
    pub colours: bool,
    /// At most so wide: columns that matter less are left out.
    pub width: Option<u16>,
}

/// How an entry is shown where there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Plain,
    Quiet,
    Good,
    Attention,
    Bad,
}

/// What is in one place of the table.
type Entry = (String, Mood);

/// Where the entries of a column come from.
enum Source {
    /// On the first line of a device.
    Device(fn(&Report) -> Entry),
    /// On each line.
    Stream(fn(&Stream) -> Option<Entry>),
}

struct Column {
    header: &'static str,
    /// Numbers, which stand on the right.
    numbers: bool,
    /// The highest is left out first.
    rank: u8,
    source: Source,
}

const fn column(header: &'static str, rank: u8, source: Source) -> Column {
    Column {
        header,
        numbers: false,
        rank,
        source,
    }
}

const fn numbers(header: &'static str, rank: u8, source: Source) -> Column {
    Column {
        numbers: true,
        ..column(header, rank, source)
    }
}

const COLUMNS: &[Column] = &[
    column(
        "CARD",
        0,
        Source::Device(|report| plain(report.name.clone())),
    ),
    column("STATE", 1, Source::Device(state)),
    column(
        "ROLE",
        4,
        Source::Stream(|stream| stream.role.clone().map(plain)),
    ),
    column(
        "STREAM",
        3,
        Source::Stream(|stream| Some(plain(stream.name.clone()))),
    ),
    column("LEVEL", 2, Source::Stream(level)),
    numbers(
        "RATE",
        8,
        Source::Stream(|stream| Some(plain(format!("{} Hz", stream.rate?)))),
    ),
    numbers(
        "PERIOD",
        10,
        Source::Stream(|stream| time(stream, stream.period)),
    ),
    numbers(
        "DELAY",
        7,
        Source::Stream(|stream| time(stream, stream.delay)),
    ),
    numbers("XRUNS", 5, Source::Stream(|stream| stream.gaps.map(fault))),
    numbers(
        "KICKS",
        9,
        Source::Device(|report| counter(report, "kicks", plain)),
    ),
    numbers(
        "RESTARTS",
        6,
        Source::Device(|report| counter(report, "restarts", attention)),
    ),
];

fn plain(text: String) -> Entry {
    (text, Mood::Plain)
}

fn attention(text: String) -> Entry {
    let mood = if text == "0" {
        Mood::Plain
    } else {
        Mood::Attention
    };
    (text, mood)
}

fn fault(count: u64) -> Entry {
    let mood = if count == 0 { Mood::Plain } else { Mood::Bad };
    (count.to_string(), mood)
}

fn counter(report: &Report, name: &str, entry: fn(String) -> Entry) -> Entry {
    match report.counters.get(name) {
        Some(count) => entry(count.to_string()),
        None => nothing(),
    }
}

fn nothing() -> Entry {
    ("-".into(), Mood::Quiet)
}

fn state(report: &Report) -> Entry {
    let mood = match report.state {
        State::Live => Mood::Good,
        State::Quiesced | State::Dying | State::Unknown => Mood::Bad,
        State::Idle | State::Starting | State::Stopping => Mood::Attention,
    };
    (report.state.to_string(), mood)
}

/// The meter while sound runs; before and after it, where the stream is in its life.
fn level(stream: &Stream) -> Option<Entry> {
    let peak = match (stream.is_running(), stream.peak) {
        (true, Some(peak)) => peak,
        _ => return Some((stream.state.clone()?, Mood::Quiet)),
    };
    let mood = match Loudness::of(peak) {
        Loudness::Silent => Mood::Quiet,
        Loudness::Usual => Mood::Good,
        Loudness::Loud => Mood::Attention,
        Loudness::Clipped => Mood::Bad,
    };
    Some((meter(peak), mood))
}

fn time(stream: &Stream, frames: Option<u64>) -> Option<Entry> {
    let time = stream.milliseconds(frames)?;
    Some(plain(format!("{time:.1} ms")))
}

/// The table; a line for each stream, and one for a device without any.
pub fn overview(reports: &[Report], look: Look) -> String {
    let mut columns: Columns<'_> = COLUMNS.iter().collect();
    loop {
        let text = draw(reports, &columns, look.colours);
        let width = width_of(reports, &columns);
        let too_wide = look.width.is_some_and(|most| width > usize::from(most));
        let least = columns.iter().map(|column| column.rank).max();
        match least {
            Some(least) if too_wide && columns.len() > 1 => {
                columns.retain(|column| column.rank != least);
            }
            _ => return text,
        }
    }
}

/// How wide the table is on a terminal, where colours take no place.
fn width_of(reports: &[Report], columns: &Columns<'_>) -> usize {
    let plain = draw(reports, columns, false);
    let width = |line: &str| line.trim_end().chars().count();
    plain.lines().map(width).max().unwrap_or_default()
}

fn draw(reports: &[Report], columns: &Columns<'_>, colours: bool) -> String {
    let mut table = table();
    if colours {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(columns.iter().map(|column| {
        let header = Cell::new(column.header).add_attribute(Attribute::Dim);
        aligned(column, header)
    }));
    for report in reports {
        let streams = report.streams();
        let lines = streams.len().max(1);
        for line in 0..lines {
            let stream = streams.get(line);
            table.add_row(columns.iter().map(|column| {
                let entry = match column.source {
                    Source::Device(entry) if line == 0 => entry(report),
                    Source::Device(_) => plain(String::new()),
                    Source::Stream(entry) => stream.and_then(entry).unwrap_or_else(nothing),
                };
                aligned(column, cell(entry))
            }));
        }
    }
    render(table)
}

fn cell((text, mood): Entry) -> Cell {
    let cell = Cell::new(text);
    match mood {
        Mood::Plain => cell,
        Mood::Quiet => cell.add_attribute(Attribute::Dim),
        Mood::Good => cell.fg(Color::Green),
        Mood::Attention => cell.fg(Color::Yellow),
        Mood::Bad => cell.fg(Color::Red).add_attribute(Attribute::Bold),
    }
}

fn aligned(column: &Column, cell: Cell) -> Cell {
    cell.set_alignment(match column.numbers {
        true => CellAlignment::Right,
        false => CellAlignment::Left,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::report::tests::{answering, report};
    use super::*;

    fn playing() -> Report {
        answering(json!({"streams": [
            {"id": 0, "direction": "playback", "state": "running", "role": "Music",
             "peak": [-30.0, -40.0], "delay_frames": 960, "gaps": 3,
             "parameters": {"rate": 48000, "period_frames": 480}},
            {"id": 1, "direction": "capture", "state": "idle", "gaps": 0},
        ]}))
    }

    fn words(line: &str) -> Vec<&str> {
        line.split_whitespace().collect()
    }

    #[test]
    fn there_is_a_line_for_each_stream() {
        let text = overview(&[playing(), report()], Look::default());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(
            lines[0].split_whitespace().collect::<Vec<_>>().join(" "),
            "CARD STATE ROLE STREAM LEVEL RATE PERIOD DELAY XRUNS KICKS RESTARTS"
        );
        let first = [
            "music",
            "live",
            "Music",
            "playback",
            "██████",
            "-30.0",
            "dB",
            "48000",
            "Hz",
        ];
        assert_eq!(words(lines[1])[..9], first);
        assert_eq!(
            words(lines[1])[9..],
            ["10.0", "ms", "20.0", "ms", "3", "17", "1"]
        );
        assert_eq!(
            words(lines[2]),
            ["-", "capture", "idle", "-", "-", "-", "0"]
        );
        let silent_process = [
            "music", "live", "-", "-", "-", "-", "-", "-", "-", "17", "1",
        ];
        assert_eq!(
            words(lines[3]),
            silent_process,
            "a process that nobody can ask"
        );
    }

    #[test]
    fn a_narrow_terminal_gets_what_matters() {
        let at = |width| {
            let look = Look {
                colours: true,
                width: Some(width),
            };
            let text = overview(&[playing()], look);
            let plain = overview(
                &[playing()],
                Look {
                    colours: false,
                    ..look
                },
            );
            assert!(text.contains("\x1b["), "no colours: {text:?}");
            let widest = plain.lines().map(|line| line.chars().count()).max();
            assert!(
                widest <= Some(usize::from(width).max(5)),
                "{width}: {plain}"
            );
            plain.lines().next().unwrap().to_owned()
        };
        let headers = at(200);
        assert_eq!(words(&headers).len(), COLUMNS.len());
        let headers = at(80);
        for missing in ["PERIOD", "KICKS"] {
            assert!(!headers.contains(missing), "{headers}");
        }
        for kept in ["CARD", "LEVEL", "XRUNS", "RESTARTS"] {
            assert!(headers.contains(kept), "{headers}");
        }
        assert_eq!(words(&at(40)), ["CARD", "STATE", "LEVEL"]);
        assert_eq!(words(&at(1)), ["CARD"]);
    }

    #[test]
    fn colours_tell_what_is_wrong() {
        let look = Look {
            colours: true,
            width: None,
        };
        let mut report = playing();
        let red =
            |report: &Report| overview(std::slice::from_ref(report), look).contains("\x1b[38;5;9m");
        assert!(red(&report), "xruns");
        report.device_process = None;
        assert!(!red(&report));
        report.state = State::Quiesced;
        assert!(red(&report));
        let plain = overview(&[report], Look::default());
        assert!(!plain.contains('\x1b'), "{plain:?}");
    }
}
