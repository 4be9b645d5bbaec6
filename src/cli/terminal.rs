//! Standard error as the terminal that a bar is drawn on. The bar's library writes to it by itself otherwise, and a
//! terminal that was stopped (Ctrl-S) would hold the main thread in that write, whatever signals come. No more than
//! one drawing waits for such a terminal: whoever draws waits as well.

use super::output;
use crossbeam_channel::{Receiver, Sender, unbounded};
use indicatif::TermLike;
use rustix::termios::{Winsize, tcgetwinsize};
use std::io;

/// The size of a terminal that does not tell its own.
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

/// The place and what is to be drawn there next. A channel to itself, as strokes are made through `&self`.
#[derive(Debug)]
pub struct Terminal {
    strokes: Sender<String>,
    begun: Receiver<String>,
}

impl Default for Terminal {
    fn default() -> Terminal {
        // Bound: the strokes of one drawing, which `flush` takes out.
        let (strokes, begun) = unbounded();
        Terminal { strokes, begun }
    }
}

impl Terminal {
    fn stroke(&self, text: String) -> io::Result<()> {
        // The other end is ours.
        let _ = self.strokes.send(text);
        Ok(())
    }

    /// Moves the cursor `by` so many cells or lines; none would be read as one.
    fn moved(&self, by: usize, way: char) -> io::Result<()> {
        if by == 0 {
            return Ok(());
        }
        self.stroke(format!("\x1b[{by}{way}"))
    }

    /// What was begun, in one piece: drawn stroke by stroke it would flicker.
    fn drawing(&self) -> String {
        self.begun.try_iter().collect()
    }
}

fn size() -> Option<Winsize> {
    let size = tcgetwinsize(std::io::stderr()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some(size)
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        size().map_or(COLUMNS, |size| size.ws_col)
    }

    fn height(&self) -> u16 {
        size().map_or(ROWS, |size| size.ws_row)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.moved(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.stroke(format!("{s}\n"))
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        self.stroke(s.to_owned())
    }

    fn clear_line(&self) -> io::Result<()> {
        self.stroke("\r\x1b[2K".to_owned())
    }

    fn flush(&self) -> io::Result<()> {
        output::draw(&self.drawing());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_drawing_is_kept_until_it_is_whole_and_taken_once() {
        let terminal = Terminal::default();
        terminal.move_cursor_up(0).unwrap();
        terminal.clear_line().unwrap();
        terminal.move_cursor_up(2).unwrap();
        terminal.write_line("one").unwrap();
        terminal.write_str("two").unwrap();
        assert_eq!(terminal.drawing(), "\r\x1b[2K\x1b[2Aone\ntwo");
        assert_eq!(terminal.drawing(), "");
    }
}
