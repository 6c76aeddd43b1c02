use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::source::template::json as jinja;

fn budget(value: &Value) -> (Budget, Templates) {
    let mut templates = Templates::new();
    let component = Component::new(value, "api_budget").unwrap();
    let budget = Budget::build(&component, &mut templates).unwrap();
    (budget, templates)
}

fn request(method: &str, url: &str) -> Request {
    Request::new(method.parse().unwrap(), url.parse().unwrap())
}

#[test]
fn the_first_policy_that_matches_counts() {
    let (budget, templates) = budget(&json!({"type": "HTTPAPIBudget", "policies": [
        {"type": "UnlimitedCallRatePolicy", "matchers": [{"type": "HttpRequestRegexMatcher", "method": "get", "url_path_pattern": "^/free"}]},
        {"type": "FixedWindowCallRatePolicy", "call_limit": "{{ config['calls'] }}", "period": "PT1H", "matchers": [
            {"type": "HttpRequestRegexMatcher", "url_base": "https://x.test/", "params": {"a": 1}, "weight": 2}]},
    ]}));
    let config = jinja::of(&json!({"calls": 3}));
    let scope = Scope::new(&templates, &config);
    let take = |method: &str, url: &str| budget.take(&request(method, url), &scope).unwrap();
    for _ in 0..9 {
        assert_eq!(take("GET", "https://x.test/free?a=1"), None);
        assert_eq!(take("POST", "https://y.test/free?a=1"), None);
    }
    assert_eq!(take("POST", "https://x.test/free?a=1"), None);
    assert!(take("POST", "https://x.test/other?a=1").unwrap() > Duration::from_secs(3590));
}

#[test]
fn answers_lower_what_is_left() {
    let (budget, templates) = budget(&json!({"type": "HTTPAPIBudget", "policies": [
        {"type": "FixedWindowCallRatePolicy", "call_limit": 100, "period": "PT1H"}]}));
    let config = jinja::of(&json!({}));
    let scope = Scope::new(&templates, &config);
    let ask = request("GET", "https://x.test/");
    let mut answer = Response {
        status: reqwest::StatusCode::OK,
        headers: crate::http::HeaderMap::new(),
        body: bytes::Bytes::new(),
    };
    answer
        .headers
        .insert("ratelimit-remaining", "1".parse().unwrap());
    assert_eq!(budget.take(&ask, &scope).unwrap(), None);
    budget.learn(&ask, &answer, &scope).unwrap();
    assert_eq!(budget.take(&ask, &scope).unwrap(), None);
    assert!(budget.take(&ask, &scope).unwrap().is_some());
}

proptest! {
    /// No moving window ever holds more than its limit, whatever the steps of time.
    #[test]
    fn moving_windows_are_never_overfull(
        limits in prop::collection::vec((1_u64..6, 1_u64..20), 1..3),
        steps in prop::collection::vec(0_u64..3, 1..120),
    ) {
        let mut templates = Templates::new();
        let rates: Vec<_> = limits
            .iter()
            .map(|(limit, seconds)| {
                let limit = templates.compile(&limit.to_string(), &minijinja::value::Value::UNDEFINED).unwrap();
                (limit, Duration::from_secs(*seconds))
            })
            .collect();
        let limit = Limit::Moving { rates, made: Mutex::default() };
        let config = jinja::of(&json!({}));
        let scope = Scope::new(&templates, &config);
        let start = Instant::now();
        let mut now = start;
        let mut made: Vec<Instant> = Vec::new();
        for step in steps {
            now += Duration::from_secs(step);
            while let Some(wait) = limit.take(1, now, &scope).unwrap() {
                now += wait;
            }
            made.push(now);
        }
        for (calls, seconds) in limits {
            for (index, from) in made.iter().enumerate() {
                let within = made[index..].iter().filter(|at| at.duration_since(*from) <= Duration::from_secs(seconds)).count();
                prop_assert!(within as u64 <= calls);
            }
        }
    }
}
