//! JSON as Python writes and reads it where that is more than JSON: `NaN` and infinities, and
//! halves of characters.

/// What stands for a half of a character: no text of ours can hold one.
const REPLACEMENT: &str = "\\ufffd";

/// The text as JSON, with null for numbers it does not have, as the reference runtime prints them;
/// `None` when there is nothing of the kind in it.
pub(super) fn standard(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut changed = false;
    let mut inside = false;
    while let Some(c) = rest.chars().next() {
        let (length, instead) = match c {
            '"' => {
                inside = !inside;
                (1, None)
            }
            '\\' if inside => escape(rest),
            'N' | 'I' | '-' if !inside => number(rest),
            _ => (c.len_utf8(), None),
        };
        changed |= instead.is_some();
        out.push_str(instead.unwrap_or_else(|| rest.get(..length).unwrap_or_default()));
        rest = rest.get(length..).unwrap_or_default();
    }
    changed.then_some(out)
}

fn number(rest: &str) -> (usize, Option<&'static str>) {
    let words = ["NaN", "Infinity", "-Infinity"];
    match words.iter().find(|word| rest.starts_with(**word)) {
        Some(word) => (word.len(), Some("null")),
        None => (1, None),
    }
}

/// An escape, or a pair of them that make one character.
fn escape(rest: &str) -> (usize, Option<&'static str>) {
    match unit(rest) {
        Some(0xd800..=0xdbff) => match unit(rest.get(6..).unwrap_or_default()) {
            Some(0xdc00..=0xdfff) => (12, None),
            _ => (6, Some(REPLACEMENT)),
        },
        Some(0xdc00..=0xdfff) => (6, Some(REPLACEMENT)),
        Some(_) => (6, None),
        None => (1 + rest.chars().nth(1).map_or(0, char::len_utf8), None),
    }
}

/// The number behind `\u`.
fn unit(rest: &str) -> Option<u32> {
    let digits = rest.strip_prefix("\\u")?.get(..4)?;
    let all = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    all.then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_json_does_not_have_becomes_something_it_has() {
        for (text, expected) in [
            (
                r#"[NaN, -Infinity, Infinity, -1]"#,
                Some("[null, null, null, -1]"),
            ),
            (r#"["NaN \" NaN"]"#, None),
            (r#"["\ud800", "\udc00x"]"#, Some(r#"["\ufffd", "\ufffdx"]"#)),
            (r#"["\ud83c\udfe0", "\\ud800", "\u00e4"]"#, None),
            (
                r#"["\ud800\ud83c\udfe0"]"#,
                Some(r#"["\ufffd\ud83c\udfe0"]"#),
            ),
        ] {
            assert_eq!(standard(text).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn json_stays_as_it_is(text in "[\\[\\]{}:,\"a\\\\ud8cNIü-]{0,24}") {
            let changed = standard(&text);
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                prop_assert_eq!(changed, None);
            }
        }
    }
}
