//! Lists of records, written while they are sent, and what spoils them.

use std::fmt::Write;
use std::sync::Arc;

use super::YardiState;
use super::held::Held;
use super::xml::Reply;
use crate::fault::FaultKind;

/// The text around the records of a list.
pub(crate) struct Frame {
    /// Before the first record.
    pub open: String,
    /// After the last record.
    pub close: String,
    /// In place of records when there are none.
    pub nothing: String,
}

/// Which elements a spoiled record lacks or distorts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spoil {
    pub kind: Option<FaultKind>,
    pub id_element: &'static str,
    pub date_element: &'static str,
}

/// A list of the records at positions `0..count`, those for which `write` gives text.
pub(crate) fn listing<W>(
    state: &Arc<YardiState>,
    count: u32,
    frame: Frame,
    spoil: Spoil,
    mut write: W,
) -> Reply
where
    W: FnMut(&Held, u32) -> Option<String> + Send + 'static,
{
    let state = Arc::clone(state);
    let mut next = 0;
    let mut found = false;
    let mut stage = 0;
    Reply::Pieces(Box::new(std::iter::from_fn(move || {
        match stage {
            0 => {
                stage = 1;
                return Some(frame.open.clone());
            }
            2 => {
                stage = 3;
                return Some(frame.close.clone());
            }
            3 => return None,
            _ => {}
        }
        let mut block = String::new();
        let held = state.read();
        while next < count && block.len() < 32_768 {
            if let Some(text) = write(&held, next) {
                if found {
                    block.push_str(&text);
                } else {
                    block.push_str(&spoiled(text, spoil));
                }
                found = true;
            }
            next += 1;
        }
        drop(held);
        if next >= count {
            stage = 2;
            if !found {
                block.push_str(&frame.nothing);
            }
        }
        Some(block)
    })))
}

/// Applies a page fault to the first record of a list.
fn spoiled(text: String, spoil: Spoil) -> String {
    match spoil.kind {
        Some(FaultKind::DuplicateIds) => text.repeat(2),
        Some(FaultKind::MissingIds) => replace_text(&text, spoil.id_element, ""),
        Some(FaultKind::ImpossibleDates) => replace_text(&text, spoil.date_element, "2025-02-31"),
        _ => text,
    }
}

/// Replaces the text of the first element of this name.
fn replace_text(xml: &str, element: &str, text: &str) -> String {
    let Some(start) = xml.find(&format!("<{element}")) else {
        return xml.to_owned();
    };
    let (before, rest) = xml.split_at(start);
    let end = format!("</{element}>");
    let stop = match (rest.find("/>"), rest.find(&end)) {
        (Some(empty), Some(close)) if empty < close && rest.find('>') == Some(empty + 1) => {
            empty + 2
        }
        (_, Some(close)) => close + end.len(),
        (Some(empty), None) => empty + 2,
        (None, None) => return xml.to_owned(),
    };
    let mut replaced = before.to_owned();
    // Writing to a String cannot fail.
    let _ = write!(replaced, "<{element}>{text}</{element}>");
    replaced.push_str(rest.get(stop..).unwrap_or(""));
    replaced
}

/// A number that is always the same for one record and purpose, for oddities of spelling.
pub(crate) fn oddity(id: u64, purpose: u64) -> u64 {
    let mut mixed =
        id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 31;
    mixed = mixed.wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 29)
}

/// A code as it is spelled in an answer: one in forty with blanks around it.
pub(crate) fn code(text: &str, id: u64, purpose: u64) -> String {
    match oddity(id, purpose) % 80 {
        0 if !text.is_empty() => format!(" {text} "),
        1 if !text.is_empty() => format!("{text}  "),
        _ => text.to_owned(),
    }
}

/// A truth value as it is spelled in an answer: one in ten with a capital letter.
pub(crate) fn boolean(value: bool, id: u64, purpose: u64) -> &'static str {
    match (value, oddity(id, purpose).is_multiple_of(10)) {
        (true, false) => "true",
        (true, true) => "True",
        (false, false) => "false",
        (false, true) => "False",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_only_the_first_element_of_a_name() {
        let xml = "<a><b x=\"1\">one</b><c/><b>two</b></a>";
        assert_eq!(replace_text(xml, "b", ""), "<a><b></b><c/><b>two</b></a>");
        assert_eq!(
            replace_text(xml, "c", "3"),
            "<a><b x=\"1\">one</b><c>3</c><b>two</b></a>"
        );
        assert_eq!(replace_text(xml, "d", "3"), xml);
    }
}
