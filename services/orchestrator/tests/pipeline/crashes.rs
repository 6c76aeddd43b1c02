//! Stores that break in the middle of a page.

use std::sync::{Arc, Mutex};

use serde_json::json;
use sluice_core::run::RunState;
use sluice_store::raw::InboundState;

use crate::{
    flaky::{Break, Breaks, FlakyMaster, FlakyRaw},
    house::House,
    incoming::locations,
};

pub struct Shaky {
    pub house: House,
    pub breaks: Breaks,
    raw: Arc<FlakyRaw>,
    master: Arc<FlakyMaster>,
}

pub async fn shaky(source: &str) -> Shaky {
    let mut house = House::build(source, "keeper").await;
    let breaks = Breaks::default();
    let raw = Arc::new(FlakyRaw {
        inner: house.backends.raw.clone(),
        breaks: breaks.clone(),
        failed: Mutex::default(),
    });
    let master = Arc::new(FlakyMaster {
        inner: house.backends.master.clone(),
        breaks: breaks.clone(),
        poison: Mutex::default(),
    });
    house.backends.raw = raw.clone();
    house.backends.master = master.clone();
    house.start_orchestrator();
    house.start_sync_in();
    house.start_sync_out();
    Shaky {
        house,
        breaks,
        raw,
        master,
    }
}

/// I1, I2, M1: whichever call to a store breaks on the second page, before or after it was
/// carried out, the run ends with each record stored once, applied once and sent once.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_call_anywhere_repeats_work_and_loses_none() {
    for method in ["put_payload", "apply", "put_records", "finish_payload"] {
        for how in [Break::Before, Break::After] {
            let shaky = shaky("scripted").await;
            let house = &shaky.house;
            house.system.holds("locations", &locations(30), 10);
            shaky.breaks.plan(method, 2, how);
            let run = house.full().await;
            house.quiet().await;
            let case = format!("{method} {how:?}");
            assert!(shaky.breaks.done(), "{case}: nothing broke");
            assert_eq!(house.system.names("Location").len(), 30, "{case}");
            assert_eq!(house.system.writes("POST"), 30, "{case}");
            assert_eq!(house.raw_records().await.len(), 30, "{case}");
            assert_eq!(run.counts.read, 30, "{case}");
            assert_eq!(run.counts.read, run.counts.settled(), "{case}");
            assert_eq!(run.state, RunState::Done, "{case}");
            for id in ["L0", "L15", "L29"] {
                let history = house.history("Location", id).await;
                assert_eq!(history.versions.len(), 1, "{case} {id}");
            }
        }
    }
}

/// O8: a record whose content the store refuses is set aside alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_is_set_aside_alone() {
    let shaky = shaky("scripted").await;
    let house = &shaky.house;
    *shaky.master.poison.lock().unwrap() = Some("L13".into());
    house.system.holds("locations", &locations(20), 20);
    let run = house.full().await;
    house.quiet().await;
    assert_eq!((run.counts.created, run.counts.rejected), (19, 1));
    assert_eq!(house.system.names("Location").len(), 19);
    let raw = house.raw_records().await;
    let refused = raw.iter().find(|record| record.source_id == "L13").unwrap();
    assert_eq!(refused.inbound, InboundState::Failed);
    assert_eq!(refused.errors[0].code, "value_refused");
    assert_eq!(raw.len(), 20);
}

/// I1: a page that cannot be read is kept byte for byte and marked; what came before it and the
/// other streams go on.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_page_is_kept_and_fails_only_its_slice() {
    let shaky = shaky("tabloid").await;
    let house = &shaky.house;
    let good = "<root><next>1</next><items><id>L1</id><name>Elm</name></items></root>";
    let torn = "<root><items><id>L2</id><name>Oak</na";
    house.system.script().pages.insert(
        "locations".into(),
        vec![Err(good.to_owned()), Err(torn.to_owned())],
    );
    let request = json!({"id": "R1", "name": "leak", "location": "L1"});
    house.system.holds("requests", &[request], 10);
    let run = house.full().await;
    house.quiet().await;
    assert_eq!(run.state, RunState::Partial);
    assert_eq!(house.system.names("Location").len(), 1);
    assert_eq!(house.system.names("ServiceRequest").len(), 1);
    let failed = shaky.raw.failed.lock().unwrap().clone();
    let (id, _) = failed.first().expect("the page is marked as failed");
    let payload = house.backends.raw.payload(house.organization, id).await;
    let payload = payload.unwrap().expect("the page is kept");
    assert_eq!(payload.new.body, torn.as_bytes());
    assert_eq!(payload.inbound, InboundState::Failed);
    assert!(!payload.errors.is_empty());
}
