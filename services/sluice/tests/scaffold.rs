//! `sluice connector new`: what it writes checks and tests well, and it overwrites nothing.

use std::{
    path::Path,
    process::{Command, Output},
};

fn connector(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .arg("connector")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams.map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

#[test]
fn a_new_connector_has_no_fault_and_its_fixtures_pass() {
    for (sides, cases) in [("source", 2), ("target", 2), ("both", 4)] {
        let place = tempfile::tempdir().unwrap();
        let made = connector(&["new", "crm", "--sides", sides], place.path());
        assert_eq!(made.status.code(), Some(0), "{}", text(&made));
        for command in ["check", "test"] {
            let output = connector(&[command, "crm"], place.path());
            assert_eq!(output.status.code(), Some(0), "{sides}: {}", text(&output));
            if command == "test" {
                let told = text(&output);
                assert!(
                    told.contains(&format!("{cases} passed, 0 failed")),
                    "{told}"
                );
            }
        }
    }
}

#[test]
fn settings_of_a_new_source_are_checked() {
    let place = tempfile::tempdir().unwrap();
    connector(&["new", "crm"], place.path());
    let config = place.path().join("config.json");
    for (settings, status) in [
        (r#"{"url": "http://127.0.0.1:9", "token": "t"}"#, 0),
        (r#"{"url": "http://127.0.0.1:9"}"#, 1),
    ] {
        std::fs::write(&config, settings).unwrap();
        let output = connector(&["check", "crm", "--config", "config.json"], place.path());
        assert_eq!(output.status.code(), Some(status), "{}", text(&output));
    }
}

#[test]
fn a_folder_that_holds_something_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let note = place.path().join("crm/note.txt");
    std::fs::create_dir(place.path().join("crm")).unwrap();
    std::fs::write(&note, "mine").unwrap();
    let output = connector(&["new", "crm"], place.path());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("connector_dir_not_empty"));
    let entries = std::fs::read_dir(place.path().join("crm")).unwrap().count();
    assert_eq!(entries, 1);
}
