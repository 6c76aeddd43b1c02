use std::time::Duration;

use serde_json::json;

use super::*;

const ACME: &str = r#"
[[organizations]]
slug = "acme"
name = "Acme Homes"

[[connections]]
organization = "acme"
name = "yardi-main"
connector = "yardi"
config = { Host = "https://yardi.example.test", "a.b" = 1, password = "env:YARDI_PASSWORD" }
retry = { base_delay = "2s", classes = { timeout = { max_retries = 5, max_delay = "1h" } } }

[[connections]]
organization = "acme"
name = "one-main"
connector = "one"

[[flows]]
organization = "acme"
name = "yardi-out"
source = "yardi-main"
targets = [{ connection = "one-main", entities = ["Location"], priority = 2 }]
"#;

fn faults(text: &str) -> String {
    let error = Settings::from_toml(text).unwrap_err();
    assert_eq!(error.code(), "config_invalid");
    error.message().to_owned()
}

#[test]
fn the_defaults_are_sound_and_embedded() {
    let settings = Settings::from_toml("").unwrap();
    assert_eq!(settings.store.raw.expose(), "sqlite:.sluice/raw.db");
    assert_eq!(settings.store.master.expose(), "sqlite:.sluice/master.db");
    assert_eq!(settings.store.broker.scheme(), "local");
    assert!(settings.http.listen.ip().is_loopback());
    assert_eq!(settings.http.max_body, 20 << 20);
    assert_eq!(settings.services.lease, Duration::from_secs(120));
    assert_eq!(settings.connectors.dir, None);
    assert_eq!(settings.catalogue().unwrap(), CatalogueSpec::default());
}

#[test]
fn bounds_of_calls_reach_every_connection_that_sets_none() {
    let bounds = |more: &str| {
        let text =
            format!("[connectors]\ntimeout = \"1500ms\"\nmax_response = \"1 MiB\"\n{ACME}{more}");
        let catalogue = Settings::from_toml(&text).unwrap().catalogue().unwrap();
        catalogue.connections.last().unwrap().config["http"].clone()
    };
    let expected = json!({"timeout_seconds": 2, "max_response_bytes": 1 << 20});
    assert_eq!(bounds(""), expected);
    let own = "[[connections]]\norganization = \"acme\"\nname = \"own\"\nconnector = \"one\"\n\
               config = { http = { timeout_seconds = 60 } }\n";
    let expected = json!({"timeout_seconds": 60, "max_response_bytes": 1 << 20});
    assert_eq!(bounds(own), expected);
    let wrong = faults("[connectors]\ntimeout = \"121 s\"\nmax_response = \"2 GiB\"\n");
    assert!(
        wrong.contains("connectors.timeout: is at most 120 s"),
        "{wrong}"
    );
    assert!(
        wrong.contains("connectors.max_response: must be"),
        "{wrong}"
    );
}

#[test]
fn the_catalogue_is_read_with_limits_of_the_connector() {
    let catalogue = Settings::from_toml(ACME).unwrap().catalogue().unwrap();
    let [yardi, one] = &catalogue.connections[..] else {
        panic!("two connections expected");
    };
    assert_eq!(
        yardi.config,
        json!({"Host": "https://yardi.example.test", "a.b": 1, "password": "env:YARDI_PASSWORD",
            "http": {"timeout_seconds": 60, "max_response_bytes": 64 << 20}})
    );
    assert_eq!(
        (yardi.retry.base_delay_ms, yardi.retry.max_retries),
        (2000, 3)
    );
    let timeout = &yardi.retry.classes[&sluice_core::ErrorClass::Timeout];
    assert_eq!(
        (timeout.max_retries, timeout.max_delay_ms),
        (Some(5), Some(3_600_000))
    );
    assert_eq!(yardi.retry.max_limited_ms, 86_400_000);
    assert_eq!(yardi.retry.max_outage_ms, 86_400_000);
    assert!(yardi.limits.is_empty());
    assert_eq!((one.limits[0].calls, one.limits[0].per_seconds), (60, 60));
    assert_eq!(one.concurrency, 4);
    assert_eq!(catalogue.flows[0].targets[0].priority.get(), 2);
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_name_all_at_once() {
    let text = faults(
        "[htp]\nlisten = \"x\"\n[store]\nbrokr = \"local:\"\n[services.sync_out]\nbach = 1\n\
         [[organizations]]\nslug = \"a\"\nnmae = \"A\"\n[[flws]]\nname = \"x\"\n",
    );
    for expected in [
        "5 faults",
        "settings line 2: htp: unknown key, did you mean `http`?",
        "settings line 4: store.brokr: unknown key, did you mean `broker`?",
        "settings line 6: services.sync_out.bach: unknown key, did you mean `batch`?",
        "organizations[0].nmae: unknown key, did you mean `name`?",
        "flws: unknown key, did you mean `flows`?",
    ] {
        assert!(text.contains(expected), "{expected} not in {text}");
    }
}

#[test]
fn wrong_values_are_named_by_key_and_line_without_the_value() {
    let text = faults(
        "[http]\nlisten = \"here-hunter2\"\nmax_body = \"20 bananas\"\n[services]\nlease = \"soon\"\n\
         [services.sync_in]\nconcurrency = \"many\"\n[telemetry]\nlog_format = 7\n",
    );
    for expected in [
        "settings line 2: http.listen:",
        "settings line 3: http.max_body: expected a size with its unit",
        "settings line 5: services.lease: expected a time with its unit",
        "settings line 7: services.sync_in.concurrency: expected",
        "settings line 9: telemetry.log_format:",
    ] {
        assert!(text.contains(expected), "{expected} not in {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn rules_over_several_settings_hold() {
    let text = faults(
        "[services]\nlease = \"5s\"\n[services.sync_in]\napply_batch = 501\nconcurrency = 0\n\
         [services.orchestrator]\nqueue_depth = 1\n",
    );
    for key in [
        "services.lease: must be longer than connectors.timeout",
        "services.lease: must be longer than services.orchestrator.rescue_interval",
        "services.sync_in.apply_batch: is at most 500",
        "services.sync_in.concurrency: must be at least 1",
        "services.orchestrator.queue_depth: must not be smaller",
    ] {
        assert!(text.contains(key), "{key} not in {text}");
    }
}

#[test]
fn stores_are_chosen_by_known_schemes_and_secrets_must_exist() {
    let text = faults(
        "[store]\nraw = \"postgres://h/d\"\nmaster = \"env:SLUICE_NO_SUCH_URL\"\nbroker = \"kafka:x\"\n",
    );
    assert!(
        text.contains("store.raw: must begin with mongodb:"),
        "{text}"
    );
    assert!(text.contains("store.master: the secret `env:SLUICE_NO_SUCH_URL` is missing"));
    assert!(text.contains("store.broker: must begin with amqp:"));
}

#[test]
fn names_and_references_of_the_catalogue_are_checked() {
    let text = faults(
        r#"
[[organizations]]
slug = "acme"
[[organizations]]
slug = "acme"
[[organizations]]
slug = "Acme Homes"
[[connections]]
organization = "acmee"
name = "a"
connector = "yardi"
[[connections]]
organization = "acme"
name = "one-main"
config = { client_secret = "hunter2" }
limits = [{ calls = 0, per_seconds = 60 }]
[[flows]]
organization = "acme"
name = "f"
source = "one-mian"
targets = [{ connection = "gone" }, { connection = "one-main" }, { connection = "one-main" }]
[[flows]]
organization = "acme"
name = "g"
source = "one-main"
targets = []
"#,
    );
    for expected in [
        "the slug `acme` is taken",
        "organizations[2].slug: must be 1 to 40 of a-z, 0-9 and -",
        "there is no organization `acmee`, did you mean `acme`?",
        "connections[1].connector: is missing",
        "connections[1].config.client_secret: is a secret: write env:NAME",
        "connections[1].limits: calls and per_seconds must be at least 1",
        "flows[0].source: there is no connection `one-mian`, did you mean `one-main`?",
        "flows[0].targets[0]: there is no connection `gone`",
        "flows[0].targets[2]: `one-main` is listed twice",
        "flows[1].targets: needs at least one target",
    ] {
        assert!(text.contains(expected), "{expected} not in {text}");
    }
    assert!(!text.contains("hunter2"));
}

#[test]
fn variables_win_over_the_file_and_origins_say_so() {
    let file = layers::File::text(
        "sluice.toml",
        "[services]\nlease = \"3m\"\ngrace = \"9s\"\n",
    );
    let variables = layers::environment(
        [
            ("SLUICE_SERVICES__LEASE", "4m"),
            ("SLUICE_SERVICES__SYNC_OUT__BATCH", "7"),
            ("SLUICE_STORE__MIGRATE_ON_START", "false"),
            (
                "SLUICE_STORE__MASTER",
                "postgres://u:hunter2@db:5432/sluice?sslkey=hunter2",
            ),
            ("SLUICE_LOG", "debug"),
            ("OTHER__KEY", "x"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into_iter(),
    );
    let settings = Settings::from_layers(Some(file), variables).unwrap();
    assert_eq!(settings.services.lease, Duration::from_secs(240));
    assert_eq!(settings.services.sync_out.batch, 7);
    assert!(!settings.store.migrate_on_start);
    let source = |key: &str| {
        let origin = settings.origins().iter().find(|origin| origin.key == key);
        origin.map(|origin| origin.source.clone())
    };
    assert_eq!(
        source("services.lease").as_deref(),
        Some("SLUICE_SERVICES__LEASE")
    );
    assert_eq!(
        source("services.grace").as_deref(),
        Some("sluice.toml line 3")
    );
    assert_eq!(source("http.listen").as_deref(), Some("default"));
    assert_eq!(
        settings.masked()["store"]["master"],
        "postgres://db:5432/sluice"
    );
    let everything = format!(
        "{:?} {:?} {settings:?}",
        settings.origins(),
        settings.masked()
    );
    assert!(!everything.contains("hunter2"), "{everything}");
}

#[test]
fn an_unknown_variable_is_named() {
    let variables = vec![("SLUICE_SERVICES__LEESE".to_owned(), "4m".to_owned())];
    let error = Settings::from_layers(None, variables).unwrap_err();
    assert!(
        error
            .message()
            .contains("SLUICE_SERVICES__LEESE: services.leese: unknown key, did you mean `lease`?"),
        "{error}"
    );
}

/// A variable of somebody else's, such as a secret's, is left alone.
#[test]
fn a_setting_with_one_underscore_is_told() {
    let variable = |name: &str| (name.to_owned(), "x".to_owned());
    let variables = vec![
        variable("SLUICE_STORE_RAW"),
        variable("SLUICE_STORE_PASSWORD"),
    ];
    let error = Settings::from_layers(None, variables).unwrap_err();
    let told = "SLUICE_STORE_RAW: read by nothing, did you mean `SLUICE_STORE__RAW`?";
    assert!(error.message().contains(told), "{error}");
    assert!(!error.message().contains("PASSWORD"), "{error}");
}

#[test]
fn an_address_that_is_none_is_refused_without_its_password() {
    let text = "[store]\nmaster = \"postgres://sluice:hunter2@[bad/x\"\n";
    let error = Settings::from_toml(text).unwrap_err();
    assert!(
        error.message().contains("store.master: is no address"),
        "{error}"
    );
    assert!(!error.message().contains("hunter2"), "{error}");
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_line_and_without_quoting_it() {
    let error = Settings::from_toml("[store]\nraw = \"x\"\npassword = hunter2\n").unwrap_err();
    assert_eq!(error.code(), "config_unreadable");
    assert!(error.message().contains("line 3"), "{error}");
    assert!(!error.message().contains("hunter2"), "{error}");
    let error = Settings::load(Some(Path::new("/no/such/sluice.toml"))).unwrap_err();
    assert_eq!(error.code(), "config_unreadable");
}

#[test]
fn the_example_in_the_documentation_is_sound() {
    let page = include_str!("../../../../docs/configuration.md");
    let example = page
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let catalogue = Settings::from_toml(example).unwrap().catalogue().unwrap();
    assert_eq!(catalogue.connections.len(), 2);
    assert_eq!(catalogue.flows[0].streams.len(), 5);
}

#[test]
fn the_example_in_the_defaults_is_sound_but_for_what_it_leaves_out() {
    let (_, example) = DEFAULTS.split_once("an example:").unwrap();
    let example: String = example
        .lines()
        .map(|line| line.trim_start_matches('#').trim_start())
        .flat_map(|line| [line, "\n"])
        .collect();
    let text = faults(&example);
    assert!(text.contains("1 fault"), "{text}");
    assert!(text.contains("there is no connection `one-main`"), "{text}");
}

/// C4: a token is a reference, opens one organization, and has a role.
#[test]
fn api_tokens_are_references_of_a_known_organization() {
    let token = |organization: &str, role: &str, token: &str| {
        format!(
            "{ACME}\n[[api_tokens]]\nname = \"ann\"\norganization = \"{organization}\"\n\
            role = \"{role}\"\ntoken = \"{token}\"\n"
        )
    };
    let settings = Settings::from_toml(&token("acme", "operator", "env:ANN")).unwrap();
    let [ann] = &settings.api_tokens[..] else {
        panic!("one token expected");
    };
    assert_eq!((&*ann.name, &*ann.token), ("ann", "env:ANN"));
    assert_eq!(ann.role, sluice_core::access::Role::Operator);
    let told = faults(&token("acne", "owner", "letmein-letmein-letmein-letmein"));
    for part in [
        "there is no organization `acne`",
        "viewer or operator",
        "is a secret",
    ] {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
    assert!(!told.contains("letmein"));
}
