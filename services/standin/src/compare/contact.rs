//! Ways to reach somebody, as they are expected.

use serde_json::{Value, json};

use super::rules::{Person, filled, text};

/// A mail address and a telephone number, as the source has them.
pub(super) struct Contact {
    pub email: Value,
    pub phone: Value,
}

impl Contact {
    /// A resident's. The mobile number comes before the home number before the office's; what was
    /// written into a leaseholder's address by mistake helps out.
    pub(super) fn of_person(one: &Person<'_>) -> Self {
        let misplaced = |fits: fn(&str) -> bool| {
            ["/addressLine1", "/addressCity"]
                .into_iter()
                .find(|pointer| one.leads && fits(text(one.lease, pointer)))
                .map_or(Value::Null, |pointer| filled(one.lease, pointer))
        };
        let email = filled(one.person, "/email");
        let numbers = ["/mobilePhone", "/homePhone", "/officePhone"];
        let number = numbers
            .into_iter()
            .map(|pointer| filled(one.person, pointer))
            .find(|number| !number.is_null());
        Self {
            email: if email.is_null() {
                misplaced(|text| text.contains('@'))
            } else {
                email
            },
            phone: number.unwrap_or_else(|| misplaced(|text| international(text).is_some())),
        }
    }

    /// Of who asked for service.
    pub(super) fn of_request(request: &Value) -> Self {
        Self {
            email: filled(request, "/requestorEmail"),
            phone: filled(request, "/requestorPhone"),
        }
    }

    /// The number as it is dialled from anywhere; none when it is no such number.
    pub(super) fn dialled(&self) -> Value {
        self.phone
            .as_str()
            .and_then(international)
            .map_or(Value::Null, |number| json!(number))
    }

    /// The number as it is dialled, else as written.
    pub(super) fn dialled_or_written(&self) -> Value {
        match self.dialled() {
            Value::Null => self.phone.clone(),
            dialled => dialled,
        }
    }
}

/// North American numbers, with or without the country's 1.
fn international(text: &str) -> Option<String> {
    let known = |letter: char| letter.is_ascii_digit() || "+-() ".contains(letter);
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    match digits.len() {
        10 if text.chars().all(known) => Some(format!("+1{digits}")),
        11 if digits.starts_with('1') && text.chars().all(known) => Some(format!("+{digits}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dialled_from_anywhere() {
        for spelling in ["(512) 555-0142", "5125550142", "+1 512 555 0142"] {
            let contact = Contact::of_request(&json!({ "requestorPhone": spelling }));
            assert_eq!(contact.dialled(), "+15125550142", "{spelling}");
        }
        let contact = Contact::of_request(&json!({ "requestorPhone": "ask the office" }));
        assert_eq!(contact.dialled(), Value::Null);
        assert_eq!(contact.dialled_or_written(), "ask the office");
    }

    #[test]
    fn the_best_number_counts_and_a_misplaced_one_helps_out() {
        let lease = json!({ "addressLine1": "dana@example.test", "addressCity": "(512) 555-0142" });
        let of = |person: Value, leads| {
            Contact::of_person(&Person {
                id: "t1",
                record: &person,
                person: &person,
                lease: &lease,
                leads,
            })
        };
        let full = json!({ "mobilePhone": "1", "homePhone": "2", "officePhone": "3", "email": "a@b.test" });
        assert_eq!(of(full.clone(), true).phone, "1");
        assert_eq!(of(full, true).email, "a@b.test");
        let office = json!({ "officePhone": "3", "mobilePhone": "", "homePhone": "2" });
        assert_eq!(of(office, true).phone, "2");
        assert_eq!(of(json!({}), true).phone, "(512) 555-0142");
        assert_eq!(of(json!({}), true).email, "dana@example.test");
        assert_eq!(of(json!({}), false).phone, Value::Null);
        assert_eq!(of(json!({}), false).email, Value::Null);
    }
}
