//! E-mail addresses and phone numbers.

use vrl::value::Value;

use super::values;

/// Longest address mail systems carry (RFC 5321 section 4.5.3.1.3, without the brackets).
const LONGEST_EMAIL: usize = 254;

/// Addresses vendors' staff type where the form demands one.
const JUNK: [&str; 4] = [
    "none@none.com",
    "na@na.com",
    "noemail@noemail.com",
    "no@email.com",
];

/// Only the shape is checked: one `@`, a name before it, a dotted host behind it, no blanks.
pub(super) fn email(value: Option<&Value>) -> Option<String> {
    let text = values::text(value)?;
    let (name, host) = text.split_once('@')?;
    let labels_sound = host.split('.').all(|label| {
        !label.is_empty()
            && label
                .chars()
                .all(|letter| letter.is_alphanumeric() || letter == '-')
    });
    let sound = !name.is_empty()
        && text.len() <= LONGEST_EMAIL
        && host.contains('.')
        && labels_sound
        && !name.chars().any(|letter| {
            letter.is_whitespace() || letter.is_control() || "@,;<>".contains(letter)
        })
        && !JUNK.contains(&text.to_ascii_lowercase().as_str());
    sound.then_some(text)
}

/// E.164 has at most 15 digits (ITU-T E.164 section 6); a North American number has ten, whose
/// area code and exchange never begin with 0 or 1 (NANP).
pub(super) fn phone(value: Option<&Value>) -> Option<String> {
    let text = values::text(value)?;
    // An extension cannot be dialled from outside; the number before it can.
    let main = text
        .split(|letter: char| letter.eq_ignore_ascii_case(&'x') || letter == '#')
        .next()?
        .trim_end_matches(|letter: char| letter.is_ascii_alphabetic() || " .,".contains(letter));
    if !main
        .chars()
        .all(|letter| letter.is_ascii_digit() || "+-.() /\u{a0}".contains(letter))
    {
        return None;
    }
    let digits: String = main.chars().filter(char::is_ascii_digit).collect();
    if main.trim_start().starts_with('+') {
        return (8..=15)
            .contains(&digits.len())
            .then(|| format!("+{digits}"));
    }
    let national = match digits.len() {
        10 => &digits[..],
        11 => digits.strip_prefix('1')?,
        _ => return None,
    };
    (!national.starts_with(['0', '1'])).then(|| format!("+1{national}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_become_e164_or_nothing() {
        for (input, expected) in [
            ("(555) 010-4477", Some("+15550104477")),
            ("555.010.4477 x12", Some("+15550104477")),
            ("555-010-4477 ext. 9", Some("+15550104477")),
            ("1-555-010-4477", Some("+15550104477")),
            ("+44 20 7946 0000", Some("+442079460000")),
            ("010-4477", None),
            ("155-010-4477", None),
            ("1 Oak Run APT 304", None),
            ("dana@example.test", None),
            ("+123", None),
            ("", None),
        ] {
            assert_eq!(
                phone(Some(&Value::from(input))).as_deref(),
                expected,
                "{input}"
            );
        }
    }

    #[test]
    fn emails_are_recognised_by_shape() {
        for (input, sound) in [
            ("dana@example.test", true),
            (" dana.poe+x@mail.example.test ", true),
            ("None@None.com", false),
            ("dana@localhost", false),
            ("dana poe@example.test", false),
            ("a@b@c.test", false),
            ("@example.test", false),
            ("dana@.test", false),
            ("1 Oak Run", false),
        ] {
            assert_eq!(email(Some(&Value::from(input))).is_some(), sound, "{input}");
        }
    }
}
