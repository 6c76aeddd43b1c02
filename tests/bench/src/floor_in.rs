//! The floor of sync-in: the I/O that its promises cannot do without, in batches, and nothing else.
//! Fetch a page; keep its bytes (I1); insert or update master rows, versions, links and tasks in one
//! transaction (M1); insert raw documents with their raw and processed form; mark the page as done;
//! publish one confirmed message per task and mark it as published (M2). No mapping, no validation, no
//! decisions but "is the hash known", and only the indexes that keep keys unique or find what is owed.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt, stream};
use lapin::{
    BasicProperties, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use mongodb::{
    Collection, IndexModel,
    bson::{Binary, Document, doc, oid::ObjectId, spec::BinarySubtype},
    options::{Acknowledgment, CollectionOptions, IndexOptions, WriteConcern},
};
use serde_json::Value;
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::{Outcome, connect::Servers, measure::Stopwatch, workload};

/// Pages in hand at once: as many as sync-in takes.
const CONCURRENCY: usize = 4;

const SCHEMA: &str = "
    create table master (id bigint generated always as identity primary key, source_id text not null unique,
        hash text not null, version integer not null);
    create table versions (master_id bigint not null, version integer not null, data json not null,
        primary key (master_id, version));
    create table links (master_id bigint not null, connection_id bigint not null, external_id text not null,
        seen_hash text not null, base_version integer not null, primary key (master_id, connection_id));
    create table tasks (id bigint generated always as identity primary key, master_id bigint not null unique,
        version integer not null, state text not null);
    create index on tasks (id) where state = 'pending';
    create table attempts (task_id bigint not null, number integer not null, at timestamptz not null default now(),
        primary key (task_id, number))";

/// Both rounds: all new, then one in ten changed.
pub async fn run(
    servers: &Servers,
    queue: &str,
    source: &str,
    records: u64,
) -> Outcome<Vec<crate::measure::Figures>> {
    let pool = PgPoolOptions::new()
        .max_connections(8)
        .connect(&servers.postgres)
        .await?;
    sqlx::raw_sql(SCHEMA).execute(&pool).await?;
    let raw = Raw::open(servers).await?;
    let connection =
        Connection::connect(&servers.rabbitmq, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), durable, arguments)
        .await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let http = reqwest::Client::builder().no_proxy().build()?;

    let mut figures = Vec::new();
    for part in ["floor-in new", "floor-in 10 % changed"] {
        let watch = Stopwatch::start();
        let pages = (0..records.div_ceil(workload::PAGE)).map(|number| {
            let (http, pool, raw, channel) = (&http, &pool, &raw, &channel);
            async move {
                let offset = number * workload::PAGE;
                let tasks = page(http, pool, raw, source, offset).await?;
                publish(channel, queue, &tasks).await?;
                published(pool, &tasks).await
            }
        });
        stream::iter(pages)
            .buffer_unordered(CONCURRENCY)
            .try_collect::<Vec<()>>()
            .await?;
        figures.push(watch.stop(part, records));
        http.post(format!("{source}/round/1")).send().await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(figures)
}

async fn page(
    http: &reqwest::Client,
    pool: &PgPool,
    raw: &Raw,
    source: &str,
    offset: u64,
) -> Outcome<Vec<i64>> {
    let body = http
        .get(format!("{source}/records?offset={offset}&limit=1000"))
        .send()
        .await?
        .bytes()
        .await?;
    let payload = raw.keep(&body).await?;
    let page: Value = serde_json::from_slice(&body)?;
    let records = page["records"].as_array().cloned().unwrap_or_default();
    let mut ids = Vec::with_capacity(records.len());
    let mut hashes = Vec::with_capacity(records.len());
    let mut texts = Vec::with_capacity(records.len());
    for record in &records {
        let text = record.to_string();
        ids.push(record["id"].as_str().unwrap_or_default().to_owned());
        hashes.push(sluice_core::Hash::of_bytes(text.as_bytes()).to_hex());
        texts.push(text);
    }
    let known: HashMap<String, String> = sqlx::query_as::<_, (String, String)>(
        "select source_id, hash from master where source_id = any($1)",
    )
    .bind(&ids)
    .fetch_all(pool)
    .await?
    .into_iter()
    .collect();
    let changed: Vec<usize> = (0..ids.len())
        .filter(|&i| known.get(&ids[i]) != Some(&hashes[i]))
        .collect();
    let pick = |all: &[String]| changed.iter().map(|&i| all[i].clone()).collect::<Vec<_>>();
    let mut tasks = Vec::new();
    if !changed.is_empty() {
        tasks = write(pool, &pick(&ids), &pick(&hashes), &pick(&texts)).await?;
        let documents = changed.iter().map(|&i| {
            let raw = mongodb::bson::serialize_to_document(&records[i])?;
            let mut processed = raw.clone();
            for unmapped in workload::UNMAPPED {
                processed.remove(unmapped);
            }
            Ok(doc! {
                "sourceId": &ids[i], "hash": &hashes[i], "payload": payload,
                "rawData": raw, "processedData": processed,
            })
        });
        let documents = documents.collect::<Outcome<Vec<_>>>()?;
        raw.records.insert_many(documents).ordered(false).await?;
    }
    raw.done(payload).await?;
    Ok(tasks)
}

/// Payloads, durable before anything is made of them, and the records found in them, which are as
/// durable as the write after them.
struct Raw {
    payloads: Collection<Document>,
    records: Collection<Document>,
}

impl Raw {
    async fn open(servers: &Servers) -> Outcome<Self> {
        let database = mongodb::Client::with_uri_str(&servers.mongodb)
            .await?
            .database(&servers.mongodb_database);
        let durable = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .build();
        let durable = CollectionOptions::builder().write_concern(durable).build();
        let raw = Self {
            payloads: database.collection_with_options("payloads", durable),
            records: database.collection("records"),
        };
        let unique = IndexOptions::builder().unique(true).build();
        let identity = IndexModel::builder()
            .keys(doc! { "sourceId": 1, "hash": 1 })
            .options(unique)
            .build();
        raw.records.create_index(identity).await?;
        Ok(raw)
    }

    async fn keep(&self, body: &[u8]) -> Outcome<ObjectId> {
        let id = ObjectId::new();
        let bytes = zstd::bulk::compress(body, 3)?;
        let subtype = BinarySubtype::Generic;
        let body = Binary { subtype, bytes };
        let payload = doc! { "_id": id, "state": "pending", "body": body };
        self.payloads.insert_one(payload).await?;
        Ok(id)
    }

    async fn done(&self, payload: ObjectId) -> Outcome {
        let update = doc! { "$set": { "state": "completed" } };
        self.payloads
            .update_one(doc! { "_id": payload }, update)
            .await?;
        Ok(())
    }
}

async fn write(
    pool: &PgPool,
    ids: &[String],
    hashes: &[String],
    texts: &[String],
) -> Outcome<Vec<i64>> {
    let mut tx = pool.begin().await?;
    let rows: Vec<(i64, i32, String)> = sqlx::query_as(
        "insert into master (source_id, hash, version)
         select * from (select unnest($1::text[]) as id, unnest($2::text[]), 1) as new order by id
         on conflict (source_id) do update set hash = excluded.hash, version = master.version + 1
         returning id, version, source_id",
    )
    .bind(ids)
    .bind(hashes)
    .fetch_all(&mut *tx)
    .await?;
    let by_id: HashMap<&str, &String> = ids.iter().map(String::as_str).zip(texts).collect();
    let masters: Vec<i64> = rows.iter().map(|row| row.0).collect();
    let versions: Vec<i32> = rows.iter().map(|row| row.1).collect();
    let data: Vec<&str> = rows
        .iter()
        .map(|row| {
            by_id
                .get(row.2.as_str())
                .map_or("null", |text| text.as_str())
        })
        .collect();
    sqlx::query(
        "insert into versions (master_id, version, data)
         select unnest($1::bigint[]), unnest($2::int[]), unnest($3::text[])::json",
    )
    .bind(&masters)
    .bind(&versions)
    .bind(&data)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "insert into links (master_id, connection_id, external_id, seen_hash, base_version)
         select m.id, 1, m.source_id, m.hash, m.version from master m where m.id = any($1::bigint[])
         on conflict (master_id, connection_id) do update
         set seen_hash = excluded.seen_hash, base_version = excluded.base_version",
    )
    .bind(&masters)
    .execute(&mut *tx)
    .await?;
    let tasks = sqlx::query_scalar(
        "insert into tasks (master_id, version, state) select unnest($1::bigint[]), unnest($2::int[]), 'pending'
         on conflict (master_id) do update set version = excluded.version, state = 'pending' returning id",
    )
    .bind(&masters)
    .bind(&versions)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(tasks)
}

async fn publish(channel: &lapin::Channel, queue: &str, tasks: &[i64]) -> Outcome {
    let mut confirms = Vec::with_capacity(tasks.len());
    let properties = BasicProperties::default().with_delivery_mode(2);
    for task in tasks {
        let body = format!("{{\"task\":{task}}}");
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        confirms.push(
            channel
                .basic_publish(
                    "".into(),
                    queue.into(),
                    options,
                    body.as_bytes(),
                    properties.clone(),
                )
                .await?,
        );
    }
    for confirm in confirms {
        if !matches!(confirm.await?, Confirmation::Ack(None)) {
            return Err("a message was not confirmed".into());
        }
    }
    Ok(())
}

/// What is not marked would be published again after a crash.
async fn published(pool: &PgPool, tasks: &[i64]) -> Outcome {
    sqlx::query("update tasks set state = 'staged' where id = any($1)")
        .bind(tasks)
        .execute(pool)
        .await?;
    Ok(())
}
