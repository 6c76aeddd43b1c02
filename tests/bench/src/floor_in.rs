//! The floor of sync-in: the same I/O in batches and nothing else. Fetch a page; insert its raw
//! documents; insert or update master rows, versions and tasks in one transaction; publish one
//! confirmed message per task. No mapping, no validation, no decisions but "is the hash known".

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt, stream};
use lapin::{
    BasicProperties, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use mongodb::bson::{Document, doc};
use serde_json::Value;
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::{Outcome, connect::Servers, measure::Stopwatch, workload};

const QUEUE: &str = "bench.floor";
/// Pages in hand at once: as many as sync-in takes.
const CONCURRENCY: usize = 4;

const SCHEMA: &str = "
    create table master (id bigint generated always as identity primary key, source_id text not null unique,
        hash text not null, version integer not null);
    create table versions (master_id bigint not null, version integer not null, data json not null,
        primary key (master_id, version));
    create table tasks (id bigint generated always as identity primary key, master_id bigint not null unique,
        version integer not null, state text not null);
    create table attempts (task_id bigint not null, number integer not null, at timestamptz not null default now(),
        primary key (task_id, number))";

/// Both rounds: all new, then one in ten changed.
pub async fn run(
    servers: &Servers,
    source: &str,
    records: u64,
) -> Outcome<Vec<crate::measure::Figures>> {
    let pool = PgPoolOptions::new()
        .max_connections(8)
        .connect(&servers.postgres)
        .await?;
    sqlx::raw_sql(SCHEMA).execute(&pool).await?;
    let raw = mongodb::Client::with_uri_str(&servers.mongodb)
        .await?
        .database(&servers.mongodb_database)
        .collection::<Document>("raw");
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
        .queue_declare(QUEUE.into(), durable, arguments)
        .await?;
    channel
        .queue_purge(QUEUE.into(), lapin::options::QueuePurgeOptions::default())
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
            async move { page(http, pool, raw, channel, source, number * workload::PAGE).await }
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
    raw: &mongodb::Collection<Document>,
    channel: &lapin::Channel,
    source: &str,
    offset: u64,
) -> Outcome {
    let body = http
        .get(format!("{source}/records?offset={offset}&limit=1000"))
        .send()
        .await?
        .bytes()
        .await?;
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
    if changed.is_empty() {
        return Ok(());
    }
    let documents = changed
        .iter()
        .map(|&i| {
            Ok(doc! { "sourceId": &ids[i], "hash": &hashes[i], "rawData": mongodb::bson::serialize_to_document(&records[i])? })
        })
        .collect::<Outcome<Vec<_>>>()?;
    let concern = mongodb::options::WriteConcern::builder()
        .w(mongodb::options::Acknowledgment::Majority)
        .journal(true)
        .build();
    raw.insert_many(documents)
        .write_concern(concern)
        .ordered(false)
        .await?;
    let pick = |all: &[String]| changed.iter().map(|&i| all[i].clone()).collect::<Vec<_>>();
    let tasks = write(pool, &pick(&ids), &pick(&hashes), &pick(&texts)).await?;
    publish(channel, &tasks).await
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
    let tasks = sqlx::query_scalar(
        "insert into tasks (master_id, version, state) select unnest($1::bigint[]), unnest($2::int[]), 'staged'
         on conflict (master_id) do update set version = excluded.version, state = 'staged' returning id",
    )
    .bind(&masters)
    .bind(&versions)
    .fetch_all(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(tasks)
}

async fn publish(channel: &lapin::Channel, tasks: &[i64]) -> Outcome {
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
                    QUEUE.into(),
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
