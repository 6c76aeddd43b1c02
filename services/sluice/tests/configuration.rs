//! The program and its configuration, without any server.

use std::{
    path::Path,
    process::{Command, Output},
};

/// Runs `sluice` with this configuration.
fn sluice(configuration: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .env("SLUICE_CONFIG", configuration)
        .args(arguments)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams.map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

/// Runs `sluice` with a configuration of this text.
fn with(text: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sluice.toml");
    std::fs::write(&path, text).unwrap();
    sluice(&path, arguments)
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_a_usage_error_with_its_name() {
    let missing = sluice(Path::new("/nowhere/sluice.toml"), &["config", "check"]);
    let broken = with("[http\nlisten = ", &["up"]);
    for output in [missing, broken] {
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let told = text(&output);
        assert!(
            told.contains("config_unreadable") && told.contains("sluice.toml"),
            "{told}"
        );
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    for command in [["config", "check"], ["config", "show"]] {
        let output = with("[http]\nlisten_on = \"127.0.0.1:0\"\n", &command);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let told = text(&output);
        for part in ["http.listen_on", "`listen`", "line 2"] {
            assert!(told.contains(part), "{part} is missing: {told}");
        }
    }
}

/// A program that asks for JSON reads the findings from there, also the first one.
#[test]
fn findings_are_json_when_asked_for() {
    for (settings, code) in [
        ("[http]\nlisten_on = \"127.0.0.1:0\"\n", "config_invalid"),
        ("[http\n", "config_unreadable"),
    ] {
        let output = with(settings, &["config", "check", "--output", "json"]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(findings[0]["code"], code, "{findings}");
    }
}

/// Without any configuration, an empty folder is enough.
#[test]
fn an_empty_folder_becomes_an_embedded_system() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .env_remove("SLUICE_CONFIG")
        .current_dir(folder.path())
        .args(["migrate", "up"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(folder.path().join(".sluice/master.db").is_file());
}

/// C4: nothing that is or may be a secret is shown; in the clear it is refused.
#[test]
fn secrets_are_not_shown() {
    let configuration = r#"
        [store]
        master = "postgres://sluice:planted-canary-1@db.example.test/sluice"
        broker = "amqp://sluice:planted-canary-2@mq.example.test/%2f"
        [[organizations]]
        slug = "acme"
        name = "Acme Homes"
        [[connections]]
        organization = "acme"
        name = "one"
        connector = "one"
        config = { base_url = "https://one.example.test", client_id = "sluice", client_secret = "planted-canary-3" }
    "#;
    let output = with(configuration, &["config", "show"]);
    let told = text(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("client_secret") && told.contains("env:NAME") && !told.contains("canary"),
        "{told}"
    );
    let by_reference = configuration.replace("planted-canary-3", "env:ONE_SECRET");
    for format in ["table", "json"] {
        let output = with(&by_reference, &["config", "show", "--output", format]);
        let told = text(&output);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(
            told.contains("db.example.test") && !told.contains("canary"),
            "{told}"
        );
    }
}

const SOUND: &str = r#"
    [[organizations]]
    slug = "acme"
    name = "Acme Homes"
    [[connections]]
    organization = "acme"
    name = "yardi"
    connector = "yardi"
    config = { url = "https://yardi.example.test/acme/Webservices", credentials = { user_name = "sluice", password = "env:PATH", server_name = "s", database = "d", platform = "SQL", interface_entity = "e", interface_license = "env:PATH" }, property_aliases = { new = "old" } }
    [[connections]]
    organization = "acme"
    name = "one"
    connector = "one"
    config = { base_url = "https://one.example.test", client_id = "sluice", client_secret = "env:PATH" }
    [[flows]]
    organization = "acme"
    name = "yardi-to-one"
    source = "yardi"
    streams = ["properties"]
    targets = [{ connection = "one", entities = ["Location"] }]
"#;

/// What nobody reads, or would be found to be wrong by a run only.
#[test]
fn mistakes_in_connections_and_flows_are_found_without_a_call() {
    let check = |configuration: &str| with(configuration, &["config", "check", "--output", "json"]);
    let sound = check(SOUND);
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound));
    for (right, wrong, told) in [
        (
            "property_aliases =",
            "windw = \"P1Y\", property_aliases =",
            "did you mean `window`?",
        ),
        (
            "user_name =",
            "interface_licence = \"x\", user_name =",
            "`credentials.interface_licence`",
        ),
        (
            "property_aliases =",
            "window = \"5 years\", property_aliases =",
            "`window` is refused",
        ),
        (
            "property_aliases =",
            "timezone = \"Mars/Base\", property_aliases =",
            "`timezone` is refused",
        ),
        (
            "https://yardi.example.test/acme/Webservices",
            "not a url",
            "`url` is refused",
        ),
        (
            "client_id =",
            "base_urll = \"x\", client_id =",
            "did you mean `base_url`?",
        ),
        (
            "property_aliases =",
            "webhook_secrets = [\"env:HOME\"], property_aliases =",
            "webhook secret",
        ),
        (
            "streams = [\"properties\"]",
            "streams = [\"propertys\"]",
            "did you mean `properties`?",
        ),
        (
            "entities = [\"Location\"]",
            "entities = [\"Locatio\"]",
            "did you mean `Location`?",
        ),
    ] {
        assert!(SOUND.contains(right));
        let output = check(&SOUND.replace(right, wrong));
        let found = text(&output);
        assert_ne!(output.status.code(), Some(0), "{wrong} is not found");
        assert!(found.contains(told), "{told} is missing: {found}");
    }
}

/// A connector's `--config` is a JSON file of settings; the variable names another one.
#[test]
fn the_variable_of_the_configuration_is_none_of_a_connector_s_settings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap();
    let folder = root.join("shared/connectors/systems/yardi");
    let folder = folder.to_str().unwrap();
    let output = with(SOUND, &["connector", "check", folder]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn a_role_alone_is_refused_with_the_broker_inside_a_process() {
    for role in ["sync-in", "sync-out", "orchestrator"] {
        let output = with("[http]\nlisten = \"127.0.0.1:0\"\n", &[role]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let told = text(&output);
        assert!(
            told.contains("broker_local") && told.contains("sluice up"),
            "{told}"
        );
    }
}

/// As when it ends in `| head -1`.
#[test]
fn a_reader_that_has_gone_ends_the_program_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["config", "show"])
        .env("SLUICE_CONFIG", "/dev/null")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
