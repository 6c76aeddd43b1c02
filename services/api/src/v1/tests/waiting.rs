//! Pushes that wait for a person, or for other records.

use axum::http::StatusCode;
use serde_json::{Value, json};
use sluice_core::ErrorClass;
use sluice_store::{
    conformance::sql::{location, request},
    task::PushNext,
};

use super::{OPERATOR, STRANGER, Server, VIEWER};

/// O1: what nobody knows is settled once, by its organization, with who and why.
#[tokio::test]
async fn unknown_pushes_are_listed_and_settled() {
    let server = Server::start().await;
    let world = &server.world;
    world.apply_one(location("p1", 1, 100)).await;
    let task = world.claim_single().await;
    assert!(
        world
            .fail(&task, ErrorClass::Timeout, PushNext::Unknown)
            .await
    );
    let listed = server.get(VIEWER, "/unknown-pushes?target=one").await;
    let id = &listed.body["items"][0]["task_id"];
    assert_eq!(id, &json!(task.lease.task_id), "{}", listed.body);
    assert_eq!(listed.body["items"][0]["version"], 1);
    let settle =
        async |token, body: &Value| server.post(token, "/unknown-pushes/settle", body).await;
    for unfit in [
        json!({ "task_id": id, "verdict": "applied", "reason": "x" }),
        json!({ "task_id": id, "verdict": "not_applied", "external_id": "9", "reason": "x" }),
        json!({ "task_id": id, "verdict": "maybe", "reason": "x" }),
        json!({ "task_id": id, "verdict": "given_up", "reason": " " }),
    ] {
        let answer = settle(OPERATOR, &unfit).await;
        answer.refused(StatusCode::BAD_REQUEST, "body_invalid");
    }
    let applied =
        json!({ "task_id": id, "verdict": "applied", "external_id": "9", "reason": "seen" });
    let theirs = settle(STRANGER, &applied).await;
    theirs.refused(StatusCode::NOT_FOUND, "task_not_unknown");
    let mine = settle(OPERATOR, &applied).await;
    assert_eq!(mine.body, json!({ "task_id": id, "settled": "applied" }));
    let again = settle(OPERATOR, &applied).await;
    again.refused(StatusCode::NOT_FOUND, "task_not_unknown");
    let activity = server.get(VIEWER, "/activity").await;
    assert_eq!(activity.body["items"][0]["actor"], "api:ann");
    assert_eq!(activity.body["items"][0]["event"], "unknown_settled");
}

/// O7.
#[tokio::test]
async fn blockers_are_shown_with_their_reasons() {
    let server = Server::start().await;
    let world = &server.world;
    world.apply_one(request("r1", 1, "p1")).await;
    let task = world.claim_single().await;
    let on = task.parents[0].parent.clone();
    assert!(world.settle(&task, PushNext::Blocked { on }).await);
    let blockers = server.get(VIEWER, "/blockers?target=one&limit=5").await;
    let first = &blockers.body["items"][0];
    assert_eq!(first["record"], "yardi/Location/p1", "{}", blockers.body);
    assert_eq!(
        (&first["waiting"], &first["reason"]),
        (&json!(1), &json!("unseen"))
    );
}
