//! Gathers the history of a quiet system from every place that keeps one.

use std::{collections::BTreeMap, path::Path};

use futures::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use serde_json::Value;
use sluice_servers::MONGODB;
use sluice_standin::compare;

use super::{
    history::{Attempt, Call, DeadLetter, History, Link, Master, Raw, Run, Task, Vendor, Version},
    sql::Sql,
    world::{self, Backend, TARGET_LIMIT, World},
};

impl World {
    pub async fn history(&self) -> History {
        let mut history = History {
            hooks: self.hooks.clone(),
            poisoned: self.poisoned.clone(),
            alarms: self.alarms.clone(),
            ..History::default()
        };
        self.add_sql(&mut history).await;
        match self.backend {
            Backend::Servers => {
                self.add_mongo(&mut history).await;
                history.queues = self.queues();
            }
            Backend::Embedded => add_raw_file(&self.raw_file(), &mut history).await,
        }
        for vendor in [world::Vendor::One, world::Vendor::Lessen360] {
            let known = self.vendor(vendor).await;
            history.vendors.insert(vendor.name().to_owned(), known);
        }
        history.differences = self.differences().await;
        history.undeleted = self.undeleted().await;
        history
    }

    async fn add_sql(&self, history: &mut History) {
        let sql = &self.sql;
        type MasterRow = (i64, String, String, String, String, i64, String);
        let rows: Vec<MasterRow> = sql
            .rows(
                "select cast(id as bigint), entity_type, entity_id, source_id, data_hash,
                    cast(current_version as bigint), cast(parents as text)
                 from sync_master_data order by id",
            )
            .await;
        let masters = rows.into_iter().map(|row| {
            let parents: Vec<Value> = serde_json::from_str(&row.6).unwrap();
            let name = |parent: &Value| {
                let text = |field: &str| parent[field].as_str().unwrap_or_default().to_owned();
                format!("{}/{}", text("entity_type"), text("source_id"))
            };
            Master {
                id: row.0,
                entity_type: row.1,
                entity_id: row.2,
                source_id: row.3,
                hash: row.4,
                version: row.5,
                parents: parents.iter().map(name).collect(),
            }
        });
        history.masters = masters.collect();
        let created = sql.micros("created_date");
        let rows: Vec<(i64, i64, String, String, i64)> = sql
            .rows(&format!(
                "select cast(master_data_id as bigint), cast(version_number as bigint), data_hash,
                    change_type, {created}
                 from data_versions",
            ))
            .await;
        let versions = rows
            .into_iter()
            .map(|(master, number, hash, change, created)| Version {
                master,
                number,
                hash,
                change,
                created,
            });
        history.versions = versions.collect();
        let rows: Vec<(i64, String, Option<String>)> = sql
            .rows(
                "select cast(l.master_data_id as bigint), c.name, l.external_id
                 from links l join connections c on c.id = l.connection_id",
            )
            .await;
        let links = rows
            .into_iter()
            .map(|(master, connection, external_id)| Link {
                master,
                connection,
                external_id,
            });
        history.links = links.collect();
        history.tasks = tasks(sql).await;
        type AttemptRow = (
            i64,
            i64,
            Option<i64>,
            String,
            Option<String>,
            String,
            i64,
            i64,
        );
        let started = sql.micros("started_date");
        let rows: Vec<AttemptRow> = sql
            .rows(&format!(
                "select cast(task_id as bigint), cast(number as bigint), cast(version as bigint),
                    outcome, error_code, worker, {started}, cast(duration_ms as bigint)
                 from task_attempts",
            ))
            .await;
        let attempts = rows.into_iter().map(|row| Attempt {
            task: row.0,
            number: row.1,
            version: row.2,
            outcome: row.3,
            error_code: row.4,
            worker: row.5,
            started: row.6,
            // Its duration is told in whole milliseconds.
            ended: row.6 + (row.7 + 1) * 1_000,
        });
        history.attempts = attempts.collect();
        let rows: Vec<(i64, i64, String, String, i64)> = sql
            .rows(
                "select cast(id as bigint), cast(task_id as bigint), state, error_code,
                    cast(case when mirrored then 1 else 0 end as bigint)
                 from dead_letters",
            )
            .await;
        let letters = rows.into_iter().map(|row| DeadLetter {
            id: row.0,
            task: row.1,
            state: row.2,
            error_code: row.3,
            mirrored: row.4 == 1,
        });
        history.letters = letters.collect();
        let rows: Vec<(i64, String, Option<String>)> = sql
            .rows("select cast(id as bigint), state, error_message from sync_orchestration")
            .await;
        let runs = rows
            .into_iter()
            .map(|(id, state, error)| Run { id, state, error });
        history.runs = runs.collect();
    }

    async fn mongo(&self) -> mongodb::Database {
        let url = self.stores.as_ref().unwrap().servers.url(MONGODB).unwrap();
        let client = mongodb::Client::with_uri_str(url).await.unwrap();
        client.database("sluice")
    }

    async fn add_mongo(&self, history: &mut History) {
        let database = self.mongo().await;
        let all = |name: &str| {
            let collection = database.collection::<Document>(name);
            async move {
                let found = collection
                    .find(doc! {})
                    .projection(doc! { "body": 0, "rawData": 0 });
                let found: Vec<Document> = found.await.unwrap().try_collect().await.unwrap();
                found
            }
        };
        let raw = |document: Document| Raw {
            id: document
                .get("_id")
                .map(ToString::to_string)
                .unwrap_or_default(),
            entity_type: document
                .get_str("entityType")
                .unwrap_or_default()
                .to_owned(),
            source_id: document.get_str("sourceId").unwrap_or_default().to_owned(),
            state: document
                .get_document("syncStatus")
                .and_then(|status| status.get_str("inbound"))
                .unwrap_or_default()
                .to_owned(),
            errors: document.get_array("errorLog").map_or(0, Vec::len),
            made: match document.get("processedData") {
                Some(Bson::Array(records)) => records.iter().filter_map(made_of).collect(),
                Some(record) => made_of(record).into_iter().collect(),
                None => Vec::new(),
            },
        };
        history.payloads = all("raw_payloads").await.into_iter().map(raw).collect();
        history.records = all("raw_records").await.into_iter().map(raw).collect();
    }

    /// Messages by queue: ready ones and those in consumers' hands. The management API's figures are
    /// seconds old and tell of messages that are gone.
    fn queues(&self) -> BTreeMap<String, i64> {
        let servers = &self.stores.as_ref().unwrap().servers;
        let arguments = ["list_queues", "--silent", "name", "messages"];
        let queues = servers.rabbitmqctl(&arguments).unwrap();
        queues
            .lines()
            .map(|line| {
                let (name, messages) = line.trim().split_once('\t').unwrap();
                (name.to_owned(), messages.parse().unwrap())
            })
            .collect()
    }

    async fn vendor(&self, vendor: world::Vendor) -> Vendor {
        let control = self.control(vendor);
        let stats = control.get("stats").await;
        let number = |field: &str| stats[field].as_u64().unwrap();
        let entries = control.ledger().await;
        Vendor {
            calls: entries.iter().map(call).collect(),
            limits: vec![TARGET_LIMIT],
            duplicates_created: number("duplicates_created"),
            overlapping_writes: number("overlapping_writes"),
            limit_violations: number("limit_violations"),
        }
    }

    /// Deleted records that somebody holds all the same.
    async fn undeleted(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let one = self.control(world::Vendor::One).records("location").await;
        let lessen360 = self.control(world::Vendor::Lessen360);
        let lessen360 = lessen360.records("property").await;
        for code in &self.gone {
            let reference = format!("{}:{code}", world::Vendor::Yardi.name());
            let alive = format!(
                "select count(*) from sync_master_data where source_id = '{code}' and not deleted"
            );
            // Both keep their records and make them inactive.
            let one_has = one
                .iter()
                .any(|record| record["locationNumber"] == *reference && record["status"] != 0);
            let lessen360_has = lessen360
                .iter()
                .any(|record| record["externalId"] == *reference && record["status"] != "INACTIVE");
            for (place, there) in [
                ("master", self.sql.number(&alive).await > 0),
                (world::Vendor::One.name(), one_has),
                (world::Vendor::Lessen360.name(), lessen360_has),
            ] {
                if there {
                    found.push((place.to_owned(), reference.clone()));
                }
            }
        }
        found
    }

    /// What differs between source, master data and targets.
    async fn differences(&self) -> Vec<(String, String, String)> {
        let (yardi, one, lessen360) = (
            self.truth(world::Vendor::Yardi, compare::YARDI_KINDS).await,
            self.truth(world::Vendor::One, compare::ONE_KINDS).await,
            self.truth(world::Vendor::Lessen360, compare::LESSEN360_KINDS)
                .await,
        );
        type MasterRow = (String, String, i64, String);
        let rows: Vec<MasterRow> = self
            .sql
            .rows(
                "select m.entity_type, m.source_id,
                    cast(case when m.deleted then 1 else 0 end as bigint), cast(v.data_snapshot as text)
                 from sync_master_data m join data_versions v
                    on v.master_data_id = m.id and v.version_number = m.current_version",
            )
            .await;
        let master: Vec<_> = rows
            .into_iter()
            .map(|(entity_type, source_id, deleted, data)| compare::Master {
                entity_type,
                source_id,
                deleted: deleted == 1,
                data: serde_json::from_str(&data).unwrap(),
            })
            .collect();
        let comparison = compare::compare(&compare::Places {
            source: world::Vendor::Yardi.name(),
            yardi: &yardi,
            one: &one,
            lessen360: &lessen360,
            master: &master,
        });
        assert!(comparison.compared > 0);
        let differences = comparison.mismatches.into_iter().map(|one| {
            let problem = format!("{} {}", one.entity, one.problem);
            (one.place.to_owned(), one.id, problem)
        });
        differences.collect()
    }

    async fn truth(&self, vendor: world::Vendor, kinds: &[&str]) -> compare::Records {
        let mut truth = compare::Records::new();
        for kind in kinds {
            let records = self.control(vendor).records(kind).await;
            truth.insert((*kind).to_owned(), records);
        }
        truth
    }
}

async fn tasks(sql: &Sql) -> Vec<Task> {
    type Row = (
        i64,
        String,
        Option<i64>,
        Option<String>,
        String,
        Option<i64>,
        Option<i64>,
        Option<i64>,
        Option<i64>,
        i64,
        Option<String>,
        Option<String>,
        Option<i64>,
    );
    let rows: Vec<Row> = sql
        .rows(
            "select cast(id as bigint), kind, cast(master_data_id as bigint), target_system, state,
                cast(wanted_version as bigint), cast(delivered_version as bigint),
                cast(intent_version as bigint), cast(unsettled_version as bigint),
                cast(case when lease_until is null then 0 else 1 end as bigint), blocked_on,
                error_code, cast(run_id as bigint)
             from sync_queue",
        )
        .await;
    rows.into_iter()
        .map(|row| Task {
            id: row.0,
            kind: row.1,
            master: row.2,
            target: row.3,
            state: row.4,
            wanted: row.5,
            delivered: row.6,
            intent: row.7,
            unsettled: row.8,
            leased: row.9 == 1,
            blocked_on: row.10,
            error_code: row.11,
            run: row.12,
        })
        .collect()
}

async fn add_raw_file(file: &Path, history: &mut History) {
    let sql = Sql::sqlite(file);
    let rows: Vec<(String, String, String)> = sql
        .rows("select id, inbound, errors from raw_payload")
        .await;
    let payloads = rows.into_iter().map(|(id, state, errors)| Raw {
        id,
        state,
        errors: count(&errors),
        ..Raw::default()
    });
    history.payloads = payloads.collect();
    let rows: Vec<(i64, String, String, String, String, Option<String>)> = sql
        .rows("select id, entity_type, source_id, inbound, errors, processed from raw_record")
        .await;
    let records =
        rows.into_iter().map(
            |(id, entity_type, source_id, state, errors, processed)| Raw {
                id: id.to_string(),
                entity_type,
                source_id,
                state,
                errors: count(&errors),
                made: processed.as_deref().map(made).unwrap_or_default(),
            },
        );
    history.records = records.collect();
}

/// Source ids in what was made of a raw record: one canonical record or a list.
fn made(processed: &str) -> Vec<String> {
    let records = match serde_json::from_str(processed).unwrap() {
        Value::Array(records) => records,
        one => vec![one],
    };
    let id = |record: &Value| record["source_id"].as_str().unwrap_or_default().to_owned();
    records.iter().map(id).collect()
}

fn made_of(record: &Bson) -> Option<String> {
    let id = record.as_document()?.get_str("source_id");
    Some(id.unwrap().to_owned())
}

fn count(list: &str) -> usize {
    let list: Vec<Value> = serde_json::from_str(list).unwrap();
    list.len()
}

fn call(entry: &Value) -> Call {
    let text = |field: &str| entry[field].as_str().map(str::to_owned);
    let texts = |field: &str| {
        let list = entry[field].as_array().unwrap();
        list.iter()
            .filter_map(|one| one.as_str().map(str::to_owned))
            .collect()
    };
    let arrived = text("arrived").unwrap_or_default();
    let arrived = chrono::DateTime::parse_from_rfc3339(&arrived).unwrap();
    Call {
        sequence: entry["seq"].as_u64().unwrap(),
        arrived: arrived.timestamp_micros(),
        operation: text("operation").unwrap_or_default(),
        status: entry["status"].as_u64().unwrap(),
        keys: texts("keys"),
        contents: texts("contents"),
        idempotency_key: text("idempotency_key"),
        applied: entry["applied"].as_bool().unwrap(),
        fault: text("fault"),
    }
}
