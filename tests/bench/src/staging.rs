//! Many waiting tasks: made directly in the SQL store, then staged and published.

use serde_json::json;
use sluice_core::{Priority, record::CanonicalRecord};
use sluice_runtime::Shutdown;
use sluice_store::master::{ApplyBatch, ApplyRecord, Route};

use crate::{
    Outcome,
    connect::{SOURCE, TARGET},
    measure::{Figures, Stopwatch},
    product::{HOUR, POLL, Product},
    workload,
};

/// Records applied in one transaction.
const BATCH: u64 = 1_000;

impl Product {
    /// New records in the SQL store, each with a push that waits.
    pub async fn fill(&self, part: &str, records: u64) -> Outcome<Figures> {
        let (source, target) = (self.connection(SOURCE)?, self.connection(TARGET)?);
        let mut batch = ApplyBatch {
            organization_id: self.organization()?,
            connection_id: source.id,
            connection: SOURCE.to_owned(),
            source_system: source.spec.connector.clone(),
            run_id: None,
            traceparent: None,
            records: Vec::new(),
            routes: vec![Route {
                entity_type: "Location".into(),
                connection_id: target.id,
                target: TARGET.to_owned(),
                priority: Priority::DEFAULT,
                max_retries: 3,
            }],
            dry_run: false,
        };
        let watch = Stopwatch::start();
        for first in (0..records).step_by(usize::try_from(BATCH)?) {
            let range = first..(first + BATCH).min(records);
            batch.records = range.map(canonical).collect();
            self.backends.master.apply(&batch).await?;
        }
        Ok(watch.stop(part, records))
    }

    /// All that waits, from the first look to the last confirmed publish.
    pub async fn staging(&self, part: &str, records: u64) -> Outcome<Figures> {
        let shutdown = Shutdown::manual();
        let watch = Stopwatch::start();
        let orchestrator = sluice_orchestrator::run(self.orchestrator(HOUR), shutdown.clone());
        let orchestrator = tokio::spawn(orchestrator);
        loop {
            // Counted by the broker, once it has confirmed them.
            let depth = self.backends.broker.depth(&self.push_queue()).await;
            if depth.unwrap_or_default().ready >= records {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        let figures = watch.stop(part, records);
        shutdown.stop();
        orchestrator.await??;
        Ok(figures)
    }
}

fn canonical(index: u64) -> ApplyRecord {
    let raw = workload::record(index, 0);
    let record = CanonicalRecord {
        entity_type: "Location".into(),
        source_id: raw["id"].as_str().unwrap_or_default().to_owned(),
        data: json!({
            "kind": "unit", "number": raw["id"], "name": raw["name"], "active": true,
            "address": { "line1": raw["street"], "city": raw["city"], "postal_code": raw["zip"] },
            "bedrooms": raw["beds"], "square_feet": raw["area"], "unit_status": raw["status"],
        }),
        parents: Vec::new(),
        modified_at: None,
        deleted: false,
        priority: None,
    };
    ApplyRecord {
        hash: record.hash(),
        record,
    }
}
