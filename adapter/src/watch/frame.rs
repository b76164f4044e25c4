// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What is on the screen: a line of title, the table, and what is not well.

use std::time::Duration;

use crossterm::style::Stylize;

use super::text;
use crate::driver::DriverError;
use crate::inspect::{Look, Report};

/// The lines of a screen of `size` columns and rows.
pub(super) fn frame(
    reports: &Result<Vec<Report>, DriverError>,
    size: (u16, u16),
    period: Duration,
    colours: bool,
) -> Vec<String> {
    let (width, height) = (usize::from(size.0), usize::from(size.1));
    let mut lines = vec![title(reports, width, period, colours), String::new()];
    match reports {
        Ok(reports) => {
            let look = Look {
                colours,
                width: Some(size.0),
            };
            lines.extend(text(reports, look).lines().map(str::to_owned));
        }
        Err(error) => lines.push(cut(&error.to_string(), width)),
    }
    if lines.len() > height {
        let more = lines.len().saturating_sub(height) + 1;
        lines.truncate(height.saturating_sub(1));
        lines.push(cut(
            &format!("... {more} more lines: make the window larger"),
            width,
        ));
    }
    lines
}

fn title(
    reports: &Result<Vec<Report>, DriverError>,
    width: usize,
    period: Duration,
    colours: bool,
) -> String {
    let reports = reports.as_deref().unwrap_or_default();
    let plays = |report: &&Report| report.streams().iter().any(|stream| stream.is_running());
    let playing = reports.iter().filter(plays).count();
    let cards = match reports.len() {
        1 => "1 card".to_owned(),
        cards => format!("{cards} cards"),
    };
    let left = cut(
        &format!("virtio-loopback   {cards}, {playing} in use"),
        width,
    );
    let right = format!("every {} s   q: quit", period.as_secs_f64());
    let room = width.saturating_sub(left.chars().count());
    let right = if right.len() + 2 <= room {
        right
    } else {
        String::new()
    };
    if colours {
        let gap = room.saturating_sub(right.len());
        format!("{}{}{}", left.bold(), " ".repeat(gap), right.dim())
    } else {
        format!("{left}{right:>room$}")
    }
}

/// The text, no longer than the screen is wide.
fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(500);

    fn plain(reports: Vec<Report>, size: (u16, u16)) -> Vec<String> {
        frame(&Ok(reports), size, PERIOD, false)
    }

    #[test]
    fn the_title_says_how_to_leave() {
        let lines = plain(Vec::new(), (60, 10));
        assert_eq!(
            lines[0],
            format!(
                "{:<37}{:>23}",
                "virtio-loopback   0 cards, 0 in use", "every 0.5 s   q: quit"
            )
        );
        assert_eq!(lines[0].chars().count(), 60);
        assert!(lines[2].contains("no loopback devices"));
        assert_eq!(plain(Vec::new(), (20, 10))[0], "virtio-loopback   0 ");
        let coloured = frame(&Ok(Vec::new()), (60, 10), PERIOD, true);
        assert!(coloured[0].contains("\x1b[1m"), "{:?}", coloured[0]);
    }

    #[test]
    fn an_error_is_shown_and_waited_out() {
        let gone = DriverError::NoDevice("music".into());
        let said = gone.to_string();
        let lines = frame(&Err(gone), (200, 10), PERIOD, false);
        assert_eq!(lines[2], said);
    }

    #[test]
    fn no_screen_is_too_small() {
        for size in [(0, 0), (1, 1), (5, 2), (300, 1)] {
            let lines = plain(Vec::new(), size);
            assert!(lines.len() <= usize::from(size.1).max(1), "{size:?}");
        }
        assert!(plain(Vec::new(), (80, 2))[1].starts_with("... 2 more lines"));
    }
}
