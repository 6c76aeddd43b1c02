use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::source::{manifest, template::json as jinja, time};

fn at(text: &str) -> Mark {
    Mark::Time(time::parse_iso(text).unwrap())
}

struct Fixture {
    templates: Templates,
    cursor: Cursor,
}

impl Fixture {
    fn new(fields: &str) -> Self {
        Self::of(&format!("type: DatetimeBasedCursor, {fields}"))
    }

    fn of(fields: &str) -> Self {
        let text = format!("streams: [{{incremental_sync: {{cursor_field: updated, {fields}}}}}]");
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
                Origin {
                    state: state.as_ref(),
                    earlier: TimeDelta::zero(),
                    since: since.map(|text| time::parse_iso(text).unwrap()),
                    now: time::parse_iso("2024-01-10T15:00:00Z").unwrap(),
                },
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
        assert_eq!(range.start, at(start));
        assert_eq!(range.end, at("2024-01-10"));
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
        let records: Vec<_> = records.iter().cloned().map(Record::Value).collect();
        let highest = fixture.cursor.highest(&records, &range, &scope).unwrap();
        fixture.cursor.state(&range, highest, &scope).unwrap()
    };
    let of = |text: &str| json!({"updated": text});
    assert_eq!(state(&[]), Some(of("2024-01-05")));
    assert_eq!(state(&[of("2024-01-02")]), Some(of("2024-01-05")));
    assert_eq!(
        state(&[of("2024-01-07T23:59:59"), of("junk"), json!({})]),
        Some(of("2024-01-07"))
    );
    assert_eq!(state(&[of("6065-01-01T00:00:00")]), Some(of("2024-01-10")));
}

#[test]
fn ranges_are_stored_and_read_back() {
    for fixture in [Fixture::new(DAYS), Fixture::of(COUNT)] {
        let range = fixture.range(None, None).unwrap();
        let stored = serde_json::to_value(&range).unwrap();
        assert_eq!(serde_json::from_value::<Range>(stored).unwrap(), range);
    }
    let times = json!({"start": "2024-01-01T00:00:00.000000Z", "end": [1]});
    assert!(serde_json::from_value::<Range>(times).is_err());
}

const COUNT: &str = "type: IncrementingCountCursor, start_value: 7";

#[test]
fn counts_start_at_the_state_and_have_no_end() {
    let fixture = Fixture::of(COUNT);
    let config = jinja::of(&json!({}));
    let scope = Scope::new(&fixture.templates, &config);
    for (state, start) in [(None, 7), (Some(json!(5)), 7), (Some(json!(9)), 9)] {
        let state = state.map(|value| json!({"updated": value}));
        let range = fixture.range(state, None).unwrap();
        assert_eq!(range.start, Mark::Count(start));
        let records = [json!({"updated": 8}), json!({"updated": "x"}), json!({})];
        let records = records.map(Record::Value);
        let highest = fixture.cursor.highest(&records, &range, &scope).unwrap();
        assert_eq!(highest, Some(Mark::Count(8)));
        let after = fixture.cursor.state(&range, highest, &scope).unwrap();
        assert_eq!(after, Some(json!({"updated": start.max(8)})));
    }
    let wrong = Fixture::of("type: IncrementingCountCursor, start_value: soon");
    let from = Origin {
        state: None,
        earlier: TimeDelta::zero(),
        since: None,
        now: time::parse_iso("2024-01-10").unwrap(),
    };
    let error = wrong
        .cursor
        .range(&Scope::new(&wrong.templates, &config), from)
        .unwrap_err();
    assert_eq!(error.code(), "cursor_start_invalid");
}

#[test]
fn clamped_windows_are_whole_periods() {
    let fixture = Fixture::new(
        "datetime_format: '%Y-%m-%d', start_datetime: '2023-10-20', step: P1M, cursor_granularity: P1D, clamping: {target: MONTH}",
    );
    let range = fixture.range(None, None).unwrap();
    let expected = [("2023-11-01", "2023-11-30"), ("2023-12-01", "2023-12-31")];
    let expected = expected.map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(fixture.windows(&range), expected);
    let fixture = Fixture::new(
        "datetime_format: '%Y-%m-%d', start_datetime: '2023-10-20', clamping: {target: WEEK}",
    );
    let config = jinja::of(&json!({}));
    let error = fixture.cursor.range(
        &Scope::new(&fixture.templates, &config),
        Origin {
            state: None,
            earlier: TimeDelta::zero(),
            since: None,
            now: time::parse_iso("2024-01-10").unwrap(),
        },
    );
    assert_eq!(error.unwrap_err().code(), "cursor_clamping_invalid");
}

proptest! {
    /// I3: windows of whole days leave no day out and read none twice.
    #[test]
    fn windows_cover_the_range_without_gaps(step in 1_u32..40, days in 0_i64..400) {
        let fixture = Fixture::new(&format!(
            "datetime_format: '%Y-%m-%d', start_datetime: '2024-01-01', step: P{step}D, cursor_granularity: P1D"
        ));
        let start = time::parse_iso("2024-01-01").unwrap();
        let range = Range { start: Mark::Time(start), end: Mark::Time(start + TimeDelta::days(days)), state: None };
        let mut covered = Vec::new();
        for (from, to) in fixture.windows(&range) {
            let (mut day, to) = (time::parse_iso(&from).unwrap(), time::parse_iso(&to).unwrap());
            while day <= to {
                covered.push(day);
                day += TimeDelta::days(1);
            }
        }
        let expected: Vec<_> = (0..=days).map(|day| start + TimeDelta::days(day)).collect();
        prop_assert_eq!(covered, expected);
    }
}
