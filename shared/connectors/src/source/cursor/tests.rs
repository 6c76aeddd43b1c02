use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::source::{manifest, template::json as jinja};

struct Fixture {
    templates: Templates,
    cursor: Cursor,
}

impl Fixture {
    fn new(fields: &str) -> Self {
        let text = format!(
            "streams: [{{incremental_sync: {{type: DatetimeBasedCursor, cursor_field: updated, {fields}}}}}]"
        );
        let manifest = manifest::load(&text).unwrap();
        let component = Component::new(&manifest["streams"][0]["incremental_sync"], "c").unwrap();
        let mut templates = Templates::new();
        let cursor = Cursor::build(&component, &mut templates).unwrap();
        Self { templates, cursor }
    }

    fn range(&self, state: Option<Value>, since: Option<&str>) -> Option<Range> {
        let config = jinja::of(&json!({"start": "2024-01-01"}));
        let scope = Scope::new(&self.templates, &config);
        self.cursor
            .range(
                &scope,
                state.as_ref(),
                chrono::TimeDelta::zero(),
                since.map(|text| time::parse_iso(text).unwrap()),
                time::parse_iso("2024-01-10T15:00:00Z").unwrap(),
            )
            .unwrap()
    }

    fn windows(&self, range: &Range) -> Vec<(String, String)> {
        let config = jinja::of(&json!({}));
        let scope = Scope::new(&self.templates, &config);
        let mut windows = Vec::new();
        let mut from = Some(range.start);
        while let Some(start) = from {
            let window = self.cursor.window(range, start, &scope).unwrap();
            let interval = self.cursor.interval(&window);
            windows.push((
                interval["start_time"].as_str().unwrap().to_owned(),
                interval["end_time"].as_str().unwrap().to_owned(),
            ));
            from = window.next;
        }
        windows
    }
}

const DAYS: &str =
    "datetime_format: '%Y-%m-%d', start_datetime: '{{ config.start }}', lookback_window: P1D";

#[test]
fn the_last_window_ends_at_the_end_exactly() {
    let fixture = Fixture::new(
        "datetime_format: '%Y-%m-%d', start_datetime: '2024-01-01', step: P3D, cursor_granularity: P1D",
    );
    let range = fixture.range(None, None).unwrap();
    let expected: Vec<_> = [("01", "03"), ("04", "06"), ("07", "10")]
        .iter()
        .map(|(a, b)| (format!("2024-01-{a}"), format!("2024-01-{b}")))
        .collect();
    assert_eq!(fixture.windows(&range), expected);
}

#[test]
fn the_state_starts_a_range_a_day_early_but_never_before_the_start() {
    let fixture = Fixture::new(DAYS);
    for (state, since, start) in [
        (None, None, "2024-01-01"),
        (Some("2024-01-05"), None, "2024-01-04"),
        (Some("2024-01-01"), None, "2024-01-01"),
        (Some("2023-05-05"), None, "2024-01-01"),
        (
            Some("2024-01-05"),
            Some("2023-12-24T10:00:00Z"),
            "2023-12-23",
        ),
        (Some("not a date"), None, "2024-01-01"),
    ] {
        let state = state.map(|text| json!({"updated": text}));
        let range = fixture.range(state, since).unwrap();
        assert_eq!(range.start, time::parse_iso(start).unwrap());
        assert_eq!(range.end, time::parse_iso("2024-01-10").unwrap());
    }
    let future = Some(json!({"updated": "2030-01-01"}));
    assert_eq!(fixture.range(future, None), None);
}

#[test]
fn the_state_is_the_highest_value_seen_and_never_beyond_the_end() {
    let fixture = Fixture::new(&format!(
        "{DAYS}, cursor_datetime_formats: ['%Y-%m-%dT%H:%M:%S']"
    ));
    let config = jinja::of(&json!({}));
    let scope = Scope::new(&fixture.templates, &config);
    let range = fixture
        .range(Some(json!({"updated": "2024-01-05"})), None)
        .unwrap();
    let state = |records: &[Value]| {
        let highest = fixture.cursor.highest(records, &range, &scope).unwrap();
        fixture.cursor.state(&range, highest, &scope).unwrap()
    };
    let at = |text: &str| json!({"updated": text});
    assert_eq!(state(&[]), Some(at("2024-01-05")));
    assert_eq!(state(&[at("2024-01-02")]), Some(at("2024-01-05")));
    assert_eq!(
        state(&[at("2024-01-07T23:59:59"), at("junk"), json!({})]),
        Some(at("2024-01-07"))
    );
    assert_eq!(state(&[at("6065-01-01T00:00:00")]), Some(at("2024-01-10")));
}

#[test]
fn ranges_are_stored_and_read_back() {
    let fixture = Fixture::new(DAYS);
    let range = fixture.range(None, None).unwrap();
    let stored = serde_json::to_value(&range).unwrap();
    assert_eq!(serde_json::from_value::<Range>(stored).unwrap(), range);
}

proptest! {
    /// I3: windows of whole days leave no day out and read none twice.
    #[test]
    fn windows_cover_the_range_without_gaps(step in 1_u32..40, days in 0_i64..400) {
        let fixture = Fixture::new(&format!(
            "datetime_format: '%Y-%m-%d', start_datetime: '2024-01-01', step: P{step}D, cursor_granularity: P1D"
        ));
        let start = time::parse_iso("2024-01-01").unwrap();
        let range = Range { start, end: start + chrono::TimeDelta::days(days), state: None };
        let mut covered = Vec::new();
        for (from, to) in fixture.windows(&range) {
            let (mut day, to) = (time::parse_iso(&from).unwrap(), time::parse_iso(&to).unwrap());
            while day <= to {
                covered.push(day);
                day += chrono::TimeDelta::days(1);
            }
        }
        let expected: Vec<_> = (0..=days).map(|day| start + chrono::TimeDelta::days(day)).collect();
        prop_assert_eq!(covered, expected);
    }
}
