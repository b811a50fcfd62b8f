//! What people see: sections, the live table, bars.

use std::fmt::Display;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::protocol::CheckpointRow;

const BAR_WIDTH: u64 = 40;

/// The output: plain lines, and below them a live line where a terminal is.
pub struct Screen {
    live: ProgressBar,
    is_terminal: bool,
}

impl Screen {
    pub fn new() -> Self {
        let is_terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let live = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        Self { live, is_terminal }
    }

    /// A line.
    pub fn line(&self, text: impl Display) {
        self.live.suspend(|| println!("{text}"));
    }

    /// The title of the next part.
    pub fn section(&self, number: u32, title: &str) {
        let text = format!("{number}. {title}");
        self.line("");
        if self.is_terminal {
            self.line(format_args!("\x1b[1m{text}\x1b[0m"));
        } else {
            self.line(text);
        }
    }

    /// Begins to show how far a run is.
    pub fn begin_run(&mut self, events: u64, offset: u64, what: &'static str) {
        if !self.is_terminal {
            return;
        }
        self.live = ProgressBar::with_draw_target(Some(events), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("   {prefix} {bar:32} {human_pos} of {human_len} events");
        self.live.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.live.set_prefix(what);
        self.live.set_position(offset);
    }

    /// Moves it on.
    pub fn advance(&self, offset: u64) {
        self.live.set_position(offset);
    }

    /// Takes the live line away.
    pub fn end_run(&self) {
        self.live.finish_and_clear();
    }

    /// The head of the table of checkpoints.
    pub fn table_head(&self) {
        self.line("   check-     after    files          bytes      bytes   sync   async   events");
        self.line("   point     events      new of all   uploaded     shared     ms      ms      /s");
    }

    /// A row of it.
    pub fn table_row(&self, row: &CheckpointRow) {
        let CheckpointRow { checkpoint, offset, files, new_files, sync_us, async_us, events_per_second, .. } = row;
        self.line(format_args!(
            "   {checkpoint:>5} {:>10}    {new_files:>5} of {files:>3} {:>10} {:>10} {:>6.1} {:>7.1} {:>8}",
            count(*offset),
            size(row.uploaded_bytes),
            size(row.shared_bytes),
            *sync_us as f64 / 1000.0,
            *async_us as f64 / 1000.0,
            count(*events_per_second),
        ));
    }

    /// What was uploaded against what full checkpoints would have, a bar each.
    pub fn bars(&self, rows: &[CheckpointRow]) {
        let most = rows.iter().map(CheckpointRow::full_bytes).max().unwrap_or(1).max(1);
        for row in rows {
            let full = cells(row.full_bytes(), most);
            let sent = cells(row.uploaded_bytes, most).clamp(1, full.max(1));
            let bar: String = (0..full.max(1)).map(|cell| if cell < sent { '#' } else { '.' }).collect();
            self.line(format_args!(
                "   {:>4} {bar:<width$} {:>9} of {:>9}",
                row.checkpoint,
                size(row.uploaded_bytes),
                size(row.full_bytes()),
                width = BAR_WIDTH as usize,
            ));
        }
    }
}

fn cells(bytes: u64, most: u64) -> u64 {
    (bytes * BAR_WIDTH).div_ceil(most)
}

/// Bytes for people: decimal units, three digits.
pub fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    let (value, unit) = match bytes {
        b if b < 1e3 => return format!("{b} B"),
        b if b < 1e6 => (b / 1e3, "kB"),
        b if b < 1e9 => (b / 1e6, "MB"),
        b => (b / 1e9, "GB"),
    };
    if value < 100.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A number with its thousands set apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
