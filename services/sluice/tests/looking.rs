//! Who puts a configuration in force: the services, and nobody who only looks.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

fn sluice(file: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.env("SLUICE_CONFIG", file).args(arguments);
    command
}

/// What a command prints as JSON.
fn printed(file: &Path, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--output", "json"]].concat();
    let output = sluice(file, &arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Starts all services, waits until they run, and ends them at once.
fn serve(file: &Path) {
    let mut child = sluice(file, &["up"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let started = lines.any(|line| line.unwrap().contains("started"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(started, "the services did not start");
}

/// Calls of the limits of `target`, and whether somebody set them by hand.
fn limits(file: &Path) -> (Value, Value) {
    let listed = printed(file, &["connection", "list"]);
    let one = listed.as_array().unwrap().iter();
    let mut one = one.filter(|one| one["connection"] == "target");
    let one = one.next().unwrap();
    (
        one["limits"][0]["calls"].clone(),
        one["limits_by_hand"].clone(),
    )
}

/// O3: somebody who looks with an edited file changes nothing for those who work.
#[test]
fn looking_with_an_edited_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, calls: u32, more: &str| {
        let path = folder.path().join(name);
        let text = format!(
            r#"
            [store]
            data_dir = "{data}"
            [http]
            listen = "127.0.0.1:0"
            [[organizations]]
            slug = "acme"
            name = "Acme Homes"
            [[connections]]
            organization = "acme"
            name = "source"
            connector = "yardi"
            config = {{ url = "http://127.0.0.1:1/acme/Webservices", credentials = {{ user_name = "sluice", password = "env:PATH", server_name = "s", database = "d", platform = "SQL", interface_entity = "e", interface_license = "env:PATH" }} }}
            [[connections]]
            organization = "acme"
            name = "target"
            connector = "one"
            config = {{ base_url = "http://127.0.0.1:1", client_id = "sluice", client_secret = "env:PATH" }}
            limits = [{{ calls = {calls}, per_seconds = 60 }}]
            {more}
            [[flows]]
            organization = "acme"
            name = "flow"
            source = "source"
            targets = [{{ connection = "target" }}]
            "#,
            data = folder.path().join("data").display(),
        );
        std::fs::write(&path, text).unwrap();
        path
    };
    let first = write("first.toml", 60, "");
    serve(&first);
    assert_eq!(limits(&first), (json!(60), json!(false)));
    let by_hand = ["connection", "limit", "target", "30/60"];
    printed(&first, &by_hand);
    assert_eq!(limits(&first), (json!(30), json!(true)));

    let another = "[[connections]]\norganization = \"acme\"\nname = \"another\"\nconnector = \"one\"
        config = { base_url = \"http://127.0.0.1:1\", client_id = \"sluice\", client_secret = \"env:PATH\" }";
    let edited = write("edited.toml", 90, another);
    let looks: [&[&str]; 9] = [
        &["queue"],
        &["queue", "blocked"],
        &["targets"],
        &["activity"],
        &["dlq", "list"],
        &["dlq", "replays", "list"],
        &["unknown", "list"],
        &["record", "list"],
        &["run", "list"],
    ];
    for look in looks {
        printed(&edited, look);
        assert_eq!(limits(&edited), (json!(30), json!(true)), "{look:?}");
    }
    let listed = printed(&edited, &["connection", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");

    // Work may be started with it; its limits are still not in force.
    printed(&edited, &["run", "start", "flow"]);
    assert_eq!(limits(&edited), (json!(30), json!(true)));
    let listed = printed(&edited, &["connection", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");

    serve(&edited);
    assert_eq!(limits(&first), (json!(90), json!(false)));
}

/// A variable stands for an option that nobody has to give.
#[test]
fn the_organization_may_be_named_by_a_variable() {
    let with = |slug: &str, arguments: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let mut command = sluice(Path::new("/dev/null"), arguments);
        command.env("SLUICE_STORE__DATA_DIR", folder.path());
        let output = command.env("SLUICE_ORGANIZATION", slug).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told)
    };
    let (status, told) = with("nobody", &["queue"]);
    assert_eq!(status, Some(3), "{told}");
    assert!(told.contains("`nobody`"), "{told}");
    let (status, told) = with("nobody", &["run", "start"]);
    assert_eq!(status, Some(2), "{told}");
    assert!(told.contains("Usage: sluice run start <FLOW>"), "{told}");
}

/// Where nothing has started yet, somebody who looks is told so.
#[test]
fn who_looks_too_early_is_told_what_to_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sluice.toml");
    let data = folder.path().join("data");
    let text = format!(
        "[store]\ndata_dir = \"{}\"\n[[organizations]]\nslug = \"acme\"\nname = \"Acme Homes\"\n",
        data.display()
    );
    std::fs::write(&file, text).unwrap();
    let output = sluice(&file, &["queue"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        told.contains("organization_missing") && told.contains("sluice up"),
        "{told}"
    );
}
