//! What operators do on the command line, on the real servers.

mod harness;

use std::time::Duration;

use harness::{Setup, System};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);

/// The findings of `doctor` that are not well.
fn problems(findings: &Value) -> Vec<String> {
    let findings = findings.as_array().unwrap_or_else(|| panic!("{findings}"));
    findings
        .iter()
        .filter(|finding| finding["ok"] == false)
        .map(|finding| format!("{} {}", finding["what"], finding["code"]))
        .collect()
}

/// C3, O3 and the commands that need no service: doctor, files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_files_and_dry_runs() {
    let system = System::start(Setup {
        seed: 41,
        records: 100,
        ..Setup::default()
    })
    .await;
    let doctor = ["doctor", "--output", "json"];
    let (status, findings) = system.command(&doctor).await;
    assert_eq!((status, problems(&findings)), (0, Vec::new()), "{findings}");
    let (status, findings) = system
        .command_with(&doctor, &[("E2E_YARDI_PASSWORD", "wrong")])
        .await;
    assert_eq!(status, 1, "{findings}");
    assert!(
        problems(&findings).concat().contains("credentials_refused"),
        "{findings}"
    );
    let nowhere = [("SLUICE_STORE__BROKER", "amqp://127.0.0.1:1/%2f")];
    let (status, findings) = system.command_with(&doctor, &nowhere).await;
    assert_eq!(status, 1, "{findings}");
    assert_eq!(problems(&findings).len(), 1, "{findings}");

    let processes = [
        system.spawn("orchestrator").await,
        system.spawn("sync-in").await,
    ];
    let rehearsal = system.start_run(&["--full", "--dry-run"]).await;
    assert_eq!(system.until_over(rehearsal, PATIENCE).await, "done");
    assert!(system.progress(rehearsal).await.1 > 0);
    let metrics = system.http.get(format!("{}/metrics", processes[1].url));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("sluice_sync_in_duration_seconds"),
        "{metrics}"
    );
    assert!(
        !metrics.contains("sluice_sync_in_records_total{"),
        "{metrics}"
    );
    let written = "select (select count(*) from sync_master_data)
        + (select count(*) from data_versions) + (select count(*) from links)
        + (select count(*) from sync_state)
        + (select count(*) from sync_queue where kind = 'push')";
    assert_eq!(system.number(written).await, 0);
    for name in ["raw_payloads", "raw_records"] {
        let database = system.mongo.open().await;
        let raw = database.collection::<mongodb::bson::Document>(name);
        assert_eq!(
            raw.count_documents(mongodb::bson::doc! {}).await.unwrap(),
            0
        );
    }

    // O3: what a command calls counts for all processes.
    let calls = "select s.revision from fleet_state s join connections c on c.id = s.connection_id
        where c.name = 'one'";
    let before = system.number(calls).await;
    let (status, findings) = system.command(&doctor).await;
    assert_eq!((status, problems(&findings)), (0, Vec::new()), "{findings}");
    assert!(system.number(calls).await > before);

    for (file, text) in [
        (
            "new.csv",
            "Code,MarketingName\nfilea,A Court\nfileb,B Court\n".to_owned(),
        ),
        (
            "new.ndjson",
            format!(
                "{}\n",
                json!({ "Code": "filec", "MarketingName": "C Court" })
            ),
        ),
    ] {
        std::fs::write(system.folder.path().join(file), text).unwrap();
        let command = [
            "ingest",
            file,
            "--connection",
            "yardi",
            "--stream",
            "properties",
            "--output",
            "json",
        ];
        let (status, answer) = system.command(&command).await;
        assert_eq!(status, 0, "{answer}");
        assert!(answer["counts"]["created"].as_i64() > Some(0), "{answer}");
    }
    assert_eq!(
        system.number("select count(*) from sync_master_data").await,
        3
    );
}

/// O4: with an open breaker, doctor tells what opened it, since when, and what follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_tells_what_opened_a_breaker() {
    let system = System::start(Setup {
        seed: 44,
        records: 200,
        ..Setup::default()
    })
    .await;
    let outage = json!({ "kind": "http_503", "rate": 1.0 });
    system.fault(&system.lessen360, outage).await;
    let roles = ["sync-in", "sync-out", "orchestrator"];
    let _processes = futures::future::join_all(roles.map(|role| system.spawn(role))).await;
    system.start_run(&["--full"]).await;
    let mut finding = Value::Null;
    // A probe of its own that is due answers for itself: then it is asked again.
    let deadline = std::time::Instant::now() + PATIENCE;
    while finding["open_since"].is_null() {
        assert!(std::time::Instant::now() < deadline, "{finding}");
        let (status, findings) = system.command(&["doctor", "--output", "json"]).await;
        let findings = findings.as_array().cloned().unwrap_or_default();
        let about = |one: &Value| one["what"].as_str().unwrap().contains("/lessen360 ");
        finding = findings.into_iter().find(about).unwrap();
        assert_eq!((status, &finding["ok"]), (1, &json!(false)), "{finding}");
    }
    assert_eq!(finding["code"], "http_503", "{finding}");
    assert!(finding["next_probe"].is_string(), "{finding}");
    let problem = finding["problem"].as_str().unwrap();
    for part in [
        "503 Service Unavailable",
        "open since",
        "probes next",
        "ask those who run it",
        "sluice connection resume lessen360",
    ] {
        assert!(problem.contains(part), "{part}: {problem}");
    }
    let (_, listed) = system
        .command(&["connection", "list", "--output", "json"])
        .await;
    let listed = listed.as_array().cloned().unwrap_or_default();
    let open = listed.iter().find(|one| one["connection"] == "lessen360");
    assert_eq!(open.unwrap()["cause"]["code"], "http_503", "{listed:?}");
}

/// O6: what a target refuses for good becomes one dead letter each; replayed, it goes through the
/// ordinary gate; discarded, it is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_replayed_and_discarded() {
    let system = System::start(Setup {
        seed: 42,
        records: 100,
        retries: 1,
        ..Setup::default()
    })
    .await;
    let refusal =
        json!({ "kind": "http_500_fault", "operation": "POST /v1/residents", "rate": 1.0 });
    system.fault(&system.lessen360, refusal).await;
    let _processes = system.start_roles().await;
    let run = system.start_run(&["--full"]).await;
    assert_eq!(system.until_quiet(run, PATIENCE).await, "done");

    let list = ["dlq", "list", "--target", "lessen360", "--output", "json"];
    let (status, letters) = system.command(&list).await;
    assert_eq!(status, 0, "{letters}");
    let letters = letters.as_array().cloned().unwrap_or_default();
    assert!(letters.len() > 2, "{letters:?}");
    let first = letters[0]["id"].to_string();
    let (status, detail) = system
        .command(&["dlq", "show", &first, "--output", "json"])
        .await;
    assert_eq!(status, 0, "{detail}");

    system.clear_faults(&system.lessen360).await;
    let replay = ["dlq", "replay", "--output", "json"];
    let (status, answer) = system.command(&replay).await;
    assert_eq!(status, 2, "a whole list needs a yes: {answer}");
    let discard = |reason: &'static str| {
        [
            "dlq", "discard", "--id", &first, "--reason", reason, "--output", "json",
        ]
    };
    let (status, answer) = system.command(&discard(" ")).await;
    assert_eq!(status, 2, "{answer}");
    assert!(answer.to_string().contains("reason_missing"), "{answer}");
    let (status, answer) = system.command(&discard("tested")).await;
    assert_eq!((status, &answer["discarded"]), (0, &json!(1)));
    let (status, answer) = system
        .command(&[&replay[..], &["--dry-run"]].concat())
        .await;
    assert_eq!(
        (status, &answer["replayable"]),
        (0, &json!(letters.len() - 1))
    );
    let (status, answer) = system
        .command(&[&replay[..], &["--yes", "--wait"]].concat())
        .await;
    assert_eq!(status, 0, "{answer}");
    assert_eq!(answer["replayed"], json!(letters.len() - 1), "{answer}");
    let cancel = ["dlq", "replays", "cancel", "1", "--output", "json"];
    assert_eq!(system.command(&cancel).await.0, 5, "it is done already");
    system.until_quiet(run, PATIENCE).await;
    let (_, left) = system.command(&list).await;
    assert_eq!(left, json!([]));
    let shown = ["dlq", "replays", "show", "1", "--output", "json"];
    let (_, shown) = system.command(&shown).await;
    assert_eq!(shown["resolved"], json!(letters.len() - 1), "{shown}");
    assert_eq!(shown["filter"], json!({}), "{shown}");
    let closed = ["dlq", "replay", "--id", &first, "--output", "json"];
    let (status, answer) = system.command(&closed).await;
    assert_eq!((status, &answer["matched"]), (3, &json!(0)), "{answer}");
    let (status, answer) = system.command(&discard("tested")).await;
    assert_eq!((status, &answer["discarded"]), (3, &json!(0)), "{answer}");
    assert_eq!(
        system
            .number("select count(*) from dead_letters where state = 'discarded'")
            .await,
        1
    );

    // What is stored once more, without a call; then one record alone, whatever it is.
    let calls = system.stats(&system.yardi).await["calls"].clone();
    let reprocess = system.start_run(&["--reprocess"]).await;
    assert_eq!(system.until_quiet(reprocess, PATIENCE).await, "done");
    let again = system.show(reprocess).await;
    assert!(again["counts"]["read"].as_i64() > Some(0), "{again}");
    assert_eq!(again["counts"]["created"], 0, "{again}");
    assert_eq!(system.stats(&system.yardi).await["calls"], calls);
    let id: String = sqlx::query_scalar(
        "select source_id from sync_master_data where entity_type = 'Resident' limit 1",
    )
    .fetch_one(&system.sql)
    .await
    .unwrap();
    let single = system
        .start_run(&["--record", &id, "--stream", "residents"])
        .await;
    assert_eq!(system.until_quiet(single, PATIENCE).await, "done");
    let nobody = system
        .start_run(&["--record", "nobody", "--stream", "residents"])
        .await;
    assert_eq!(system.until_over(nobody, PATIENCE).await, "failed");
    let told = system.show(nobody).await["error"].to_string();
    assert!(told.contains("record_not_found"), "{told}");
    unknown_pushes_are_settled(&system).await;
    let (status, blocked) = system
        .command(&["queue", "blocked", "--output", "json"])
        .await;
    assert_eq!(status, 0, "{blocked}");
    // Attachments of service requests that the mapping leaves out at the target.
    let blocked = blocked.as_array().cloned().unwrap_or_default();
    assert!(
        blocked.iter().all(|one| one["reason"] == "left_out"),
        "{blocked:?}"
    );
    let single = system.show(single).await;
    assert_eq!(single["counts"]["read"], 1, "{single}");
    assert_eq!(single["counts"]["unchanged"], 1, "{single}");
    system.assert_targets_were_treated_well().await;
}

/// O1: a person finds out what nobody knows.
async fn unknown_pushes_are_settled(system: &System) {
    let lost = "update sync_queue set state = 'unknown', intent_version = wanted_version
        where id = (select min(id) from sync_queue where kind = 'push' and state = 'completed')";
    sqlx::query(lost).execute(&system.sql).await.unwrap();
    let list = ["unknown", "list", "--output", "json"];
    let (status, pushes) = system.command(&list).await;
    assert_eq!(status, 0, "{pushes}");
    let task = pushes[0]["task_id"].to_string();
    let settle = ["unknown", "settle", &task, "--reason", "tested"];
    let (status, answer) = system.command(&settle).await;
    assert_eq!(status, 2, "a verdict is needed: {answer}");
    let applied = [&settle[..], &["--applied", "there-1", "--output", "json"]].concat();
    let (status, answer) = system.command(&applied).await;
    assert_eq!((status, &answer["settled"]), (0, &json!("applied")));
    let (status, answer) = system.command(&applied).await;
    assert_eq!(status, 3, "once is enough: {answer}");
    let (_, pushes) = system.command(&list).await;
    assert_eq!(pushes, json!([]));
    let linked = "select count(*) from links where external_id = 'there-1'";
    assert_eq!(system.number(linked).await, 1);
}
