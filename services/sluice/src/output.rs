//! Printing results: tables for people, JSON for programs. Data goes to stdout, all else to stderr.

use std::{fmt, io::Write, process};

use serde::Serialize;
use sluice_core::{Error, Result};

use crate::cli::OutputFormat;

/// Exit status of programs whose reader has gone, as a shell tells it (128 + SIGPIPE).
const READER_GONE: i32 = 141;

/// `println!` for results: the end of a reader, such as `head`, ends the program quietly.
macro_rules! out {
    ($($text:tt)*) => { $crate::output::line(format_args!($($text)*)) };
}
pub(crate) use out;

/// Prints a line of a result.
pub fn line(text: fmt::Arguments<'_>) {
    end_unless_written(writeln!(std::io::stdout().lock(), "{text}"));
}

/// Prints bytes as they are.
pub fn bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    end_unless_written(stdout.write_all(bytes).and_then(|()| stdout.flush()));
}

fn end_unless_written(outcome: std::io::Result<()>) {
    if let Err(error) = outcome {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            process::exit(READER_GONE);
        }
        eprintln!("error: a result could not be written: {error}");
        process::exit(1);
    }
}

/// Prints one JSON document.
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        Error::internal("output_failed", "a result could not be written as JSON").caused_by(error)
    })?;
    out!("{text}");
    Ok(())
}

/// Prints rows under headings, columns as wide as needed.
pub fn table(headings: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = headings
        .iter()
        .map(|heading| heading.chars().count())
        .collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            let padding = width.saturating_sub(cell.chars().count());
            let number = cell
                .chars()
                .next()
                .is_some_and(|first| first.is_ascii_digit())
                && cell
                    .chars()
                    .all(|c| c.is_ascii_digit() || "., %".contains(c));
            if number {
                text.extend(std::iter::repeat_n(' ', padding));
                text.push_str(cell);
            } else {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', padding));
            }
            text.push_str("  ");
        }
        out!("{}", text.trim_end());
    };
    line(&mut headings.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
}

/// A list: a JSON array, or a table with a note when it is empty.
pub fn list<T: Serialize>(
    format: OutputFormat,
    items: &[T],
    headings: &[&str],
    empty: &str,
    row: impl Fn(&T) -> Vec<String>,
) -> Result<()> {
    match format {
        OutputFormat::Json => json(&items),
        OutputFormat::Table if items.is_empty() => {
            eprintln!("{empty}");
            Ok(())
        }
        OutputFormat::Table => {
            table(headings, &items.iter().map(row).collect::<Vec<_>>());
            Ok(())
        }
    }
}
