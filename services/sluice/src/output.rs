//! Printing results: tables for people, JSON for programs. Data goes to stdout, all else to stderr.

use serde::Serialize;
use sluice_core::{Error, Result};

use crate::cli::OutputFormat;

/// Prints one JSON document.
#[expect(clippy::print_stdout, reason = "this is where results go to stdout")]
pub fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| {
        Error::internal("output_failed", "a result could not be written as JSON").caused_by(error)
    })?;
    println!("{text}");
    Ok(())
}

/// Prints rows under headings, columns as wide as needed.
#[expect(clippy::print_stdout, reason = "this is where results go to stdout")]
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
        println!("{}", text.trim_end());
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
