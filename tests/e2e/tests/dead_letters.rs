//! Dead letters at the real broker, handled as a person handles them in its management screens.

mod harness;

use std::time::Duration;

use harness::{ORGANIZATION, Setup, System};
use serde_json::json;
use sluice_testkit::wait_until;

const PATIENCE: Duration = Duration::from_secs(120);

/// O6: the dead-letter queue shows what is open, a message moved to a work queue is a replay of its
/// letter alone, and what was purged comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_dead_letters_are_moved_and_purged_by_hand() {
    let system = System::start(Setup {
        seed: 43,
        records: 100,
        retries: 0,
        ..Setup::default()
    })
    .await;
    let refusal =
        json!({ "kind": "http_500_fault", "operation": "POST /v1/residents", "rate": 1.0 });
    system.fault(&system.lessen360, refusal).await;
    let _processes = system.start_roles().await;
    let run = system.start_run(&["--full"]).await;
    assert_eq!(system.until_quiet(run, PATIENCE).await, "done");
    let open = "select count(*) from dead_letters where state = 'open'";
    let letters = system.number(open).await;
    assert!(letters > 2, "{letters}");
    let dead = format!("sluice.dead.{ORGANIZATION}.lessen360");
    let shown = async |count: i64| {
        wait_until(PATIENCE, || async {
            system.rabbit.ready(&dead).await == count
        })
        .await;
    };
    shown(letters).await;
    system.clear_faults(&system.lessen360).await;

    // "Get messages" and "Publish message": the payload is copied, properties are not.
    let payload = system.rabbit.take(&dead).await;
    assert!(payload.contains("dead_letter"), "{payload}");
    let work = format!("sluice.push.{ORGANIZATION}.lessen360.normal");
    for _ in 0..2 {
        system.rabbit.publish(&work, &payload).await;
    }
    let by_hand = "select count(*) from dead_letters where state = 'resolved' and actor = 'broker'";
    wait_until(PATIENCE, || async { system.number(by_hand).await == 1 }).await;
    assert_eq!(system.number(open).await, letters - 1);
    shown(letters - 1).await;

    system.rabbit.purge(&dead).await;
    shown(letters - 1).await;

    // "Move messages": with their properties, all at once, while Sluice shows them.
    system.rabbit.move_messages(&dead, &work).await;
    wait_until(PATIENCE, || async { system.number(open).await == 0 }).await;
    system.until_quiet(run, PATIENCE).await;
    assert_eq!(system.number(by_hand).await, letters);
    shown(0).await;
    system.assert_targets_were_treated_well().await;
}
