use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::source::{manifest, template::json};

fn paginator(strategy: &str, templates: &mut Templates) -> Paginator {
    let text = format!(
        "streams: [{{retriever: {{paginator: {{type: DefaultPaginator, page_token_option: {{type: RequestOption, inject_into: request_parameter, field_name: p}}, pagination_strategy: {strategy}}}}}}}]"
    );
    let manifest = manifest::load(&text).unwrap();
    let component = Component::new(&manifest["streams"][0]["retriever"]["paginator"], "p").unwrap();
    Paginator::build(Some(&component), templates).unwrap()
}

/// Tokens sent for pages of these (extracted, emitted) sizes with a `next` field counting up.
fn walk(strategy: &str, pages: &[(usize, usize)]) -> Result<Vec<Value>> {
    let mut templates = Templates::new();
    let paginator = paginator(strategy, &mut templates);
    let config = json::of(&json!({}));
    let scope = Scope::new(&templates, &config);
    let mut position = paginator.start();
    let mut tokens = vec![position.token.clone()];
    for (index, (extracted, emitted)) in pages.iter().enumerate() {
        let response = json!({"next": format!("n{index}"), "done": index + 1 == pages.len()});
        let seen = Seen {
            response: json::of(&response),
            headers: Jinja::UNDEFINED,
            extracted: *extracted,
            emitted: *emitted,
            last_record: None,
            records_hash: Some(Hash::of_json(&response)),
        };
        match paginator.next(&position, &seen, &scope)? {
            Some(next) => {
                // What is stored as progress comes back the same.
                let stored = serde_json::to_value(&next).unwrap();
                position = serde_json::from_value(stored).unwrap();
                tokens.push(position.token.clone());
            }
            None => break,
        }
    }
    Ok(tokens)
}

#[test]
fn strategies_count_as_the_format_says() {
    for (strategy, pages, tokens) in [
        (
            "{type: PageIncrement, page_size: 2}",
            &[(2, 0), (2, 2), (1, 1)][..],
            json!([null, 1, 2]),
        ),
        (
            "{type: PageIncrement, start_from_page: 1, inject_on_first_request: true}",
            &[(5, 5), (0, 0)],
            json!([1, 2]),
        ),
        (
            "{type: OffsetIncrement, page_size: '2'}",
            &[(2, 2), (2, 1), (0, 0)],
            json!([null, 2, 4]),
        ),
        (
            "{type: OffsetIncrement, page_size: 2, inject_on_first_request: true}",
            &[(2, 2), (1, 1)],
            json!([0, 2]),
        ),
        (
            "{type: CursorPagination, cursor_value: '{{ response.next }}', stop_condition: '{{ response.done }}'}",
            &[(1, 1), (0, 0), (1, 1)],
            json!([null, "n0", "n1"]),
        ),
        (
            "{type: CursorPagination, cursor_value: '{{ response.nothing }}'}",
            &[(1, 1), (1, 1)],
            json!([null]),
        ),
        (
            "{type: CursorPagination, page_size: 2, cursor_value: '{{ last_page_size }}', stop_condition: '{{ last_page_size < 2 }}'}",
            &[(2, 2), (2, 1)],
            json!([null, 2]),
        ),
    ] {
        assert_eq!(
            Value::Array(walk(strategy, pages).unwrap()),
            tokens,
            "{strategy}"
        );
    }
}

#[test]
fn a_part_of_something_missing_is_an_error_in_the_cursor_value() {
    let strategy = "{type: CursorPagination, cursor_value: '{{ response.a.b }}'}";
    assert_eq!(
        walk(strategy, &[(1, 1)]).unwrap_err().code(),
        "template_undefined"
    );
}

#[test]
fn repeated_tokens_end_in_an_error() {
    let strategy = "{type: CursorPagination, cursor_value: 'same'}";
    assert_eq!(
        walk(strategy, &[(1, 1); 5]).unwrap_err().code(),
        "pagination_loop"
    );
}

proptest! {
    /// I4: a cycle of any length is found within a few rounds, and nothing else is.
    #[test]
    fn cycles_are_found_and_only_cycles(lead in 0_usize..40, length in 1_usize..40) {
        let mut cycle = Cycle::default();
        let mut found = None;
        for step in 0..(lead + length) * 8 + 8 {
            let value = if step < lead { step } else { lead + (step - lead) % length };
            if cycle.repeats(Hash::of_bytes(&value.to_le_bytes())) {
                found = Some(step);
                break;
            }
        }
        prop_assert!(found.is_some_and(|step| step >= length));
        let mut straight = Cycle::default();
        for step in 0..500_usize {
            prop_assert!(!straight.repeats(Hash::of_bytes(&step.to_le_bytes())));
        }
    }
}
