// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The terminal as a screen: what was on it before is there again afterwards, whatever ends this.

use std::io::{self, BufWriter, Stdout, Write};
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveTo, MoveToNextLine, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::Print;
use crossterm::terminal::{
    self, BeginSynchronizedUpdate, Clear, ClearType, DisableLineWrap, EnableLineWrap,
    EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
};
use crossterm::{execute, queue};

use crate::signals::Signals;

/// How often signals are looked for while a key is waited for.
const SIGNAL_PERIOD: Duration = Duration::from_millis(200);

/// What the user, or who stops the program, wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing; the time is up.
    None,
    /// The screen has another size.
    Redraw,
    /// The end.
    End,
}

/// The terminal while it is ours.
pub(super) struct Screen {
    output: BufWriter<Stdout>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn enter() -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        // From here on it is given back.
        let mut screen = Self {
            output: BufWriter::new(io::stdout()),
        };
        execute!(screen.output, EnterAlternateScreen, Hide, DisableLineWrap)?;
        Ok(screen)
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        terminal::size()
    }

    /// Shows these lines and nothing else.
    pub(super) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let output = &mut self.output;
        queue!(output, BeginSynchronizedUpdate, MoveTo(0, 0))?;
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                queue!(output, MoveToNextLine(1))?;
            }
            // Not behind the line: its last character would go where it fills the screen's width.
            queue!(output, Clear(ClearType::CurrentLine), Print(line))?;
        }
        queue!(
            output,
            Clear(ClearType::FromCursorDown),
            EndSynchronizedUpdate
        )?;
        output.flush()
    }

    /// Waits for the user, at most until `due`.
    #[allow(
        clippy::unused_self,
        reason = "keys come one by one only while the screen is ours"
    )]
    pub(super) fn wait(&self, due: Instant, signals: &Signals) -> io::Result<Wish> {
        while !signals.end_requested() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Wish::None);
            }
            if !event::poll(left.min(SIGNAL_PERIOD))? {
                continue;
            }
            match event::read()? {
                Event::Resize(..) => return Ok(Wish::Redraw),
                Event::Key(key) if ends(key) => return Ok(Wish::End),
                _ => {}
            }
        }
        Ok(Wish::End)
    }
}

fn ends(key: KeyEvent) -> bool {
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let quit = matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc);
    key.kind != KeyEventKind::Release && (control_c || quit)
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing back.
        let _ = execute!(self.output, EnableLineWrap, Show, LeaveAlternateScreen);
        let _ = terminal::disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_keys_end_it() {
        let key = |code, modifiers| ends(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(key(KeyCode::Esc, KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
        assert!(!key(KeyCode::Enter, KeyModifiers::NONE));
    }
}
