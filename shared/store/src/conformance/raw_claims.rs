//! How every [`RawStore`] lets payloads be claimed whose worker is gone. Listed in
//! [`crate::raw_conformance!`].

use std::{sync::Arc, time::Duration};

use super::raw::{HOUR, at, claim, payload, put};
use crate::raw::{ClaimPending, NewPayload, RawStore};

pub async fn only_abandoned_payloads_are_claimed(store: Arc<dyn RawStore>) {
    let leased = put(&*store, payload("leased"), HOUR).await;
    let done = put(&*store, payload("done"), Duration::ZERO).await;
    store.finish_payload(&done, None).await.unwrap();
    let mut abandoned = Vec::new();
    for index in [2, 0, 1] {
        let new = NewPayload {
            received_at: at(index),
            ..payload(format!("abandoned {index}"))
        };
        abandoned.push((index, put(&*store, new, Duration::ZERO).await));
    }
    abandoned.sort();
    let oldest_first: Vec<_> = abandoned.into_iter().map(|(_, id)| id).collect();
    assert_eq!(claim(&*store, 2).await, oldest_first[..2]);
    assert_eq!(claim(&*store, 2).await, oldest_first[2..]);
    assert_eq!(claim(&*store, 2).await, []);
    assert!(!oldest_first.contains(&leased));
}

/// O8: so that one which kills its workers is noticed.
pub async fn claims_are_counted_until_the_payload_comes_again(store: Arc<dyn RawStore>) {
    let new = payload("poison");
    put(&*store, new.clone(), Duration::ZERO).await;
    let ask = ClaimPending {
        owner: "rescuer".into(),
        lease: Duration::ZERO,
        limit: 1,
    };
    let claims = async || {
        let claimed = super::eventually(async || {
            let claimed = store.claim_pending(&ask).await.unwrap();
            claimed.into_iter().next()
        });
        claimed.await.claims
    };
    for expected in 1..=3 {
        assert_eq!(claims().await, expected);
    }
    store.put_payload(new, Duration::ZERO).await.unwrap();
    assert_eq!(claims().await, 1);
}

pub async fn racing_claimers_share_nothing(store: Arc<dyn RawStore>) {
    for index in 0..40 {
        put(&*store, payload(format!("page {index}")), Duration::ZERO).await;
    }
    let claimers = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let more = claim(&*store, 3).await;
                if more.is_empty() {
                    return mine;
                }
                mine.extend(more);
            }
        })
    });
    let mut all = Vec::new();
    for claimer in claimers.collect::<Vec<_>>() {
        all.extend(claimer.await.unwrap());
    }
    // A claimer may go home early when others took what it saw; nobody takes what is taken.
    all.extend(claim(&*store, 100).await);
    assert_eq!(all.len(), 40);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 40);
}

pub async fn a_short_lease_runs_out(store: Arc<dyn RawStore>) {
    let id = put(&*store, payload("page"), Duration::from_millis(400)).await;
    assert_eq!(claim(&*store, 1).await, [], "leased");
    let claimed = super::eventually(async || {
        let claimed = claim(&*store, 1).await;
        (!claimed.is_empty()).then_some(claimed)
    })
    .await;
    assert_eq!(claimed, [id]);
}
