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
