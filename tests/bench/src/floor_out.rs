//! The floor of sync-out: receive messages, one POST each, settle in batches, acknowledge. It works
//! on what the floor of sync-in left behind.

use futures::{StreamExt, stream};
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::{Outcome, connect::Servers, measure::Stopwatch};

const BATCH: usize = 200;
/// Calls in flight at once.
const CALLS: usize = 64;
/// Batches in hand at once.
const SLOTS: usize = 3;

/// Sends `records` messages of the floor's queue.
pub async fn run(
    servers: &Servers,
    queue: &str,
    target: &str,
    records: u64,
) -> Outcome<crate::measure::Figures> {
    let pool = PgPoolOptions::new()
        .max_connections(8)
        .connect(&servers.postgres)
        .await?;
    let connection =
        Connection::connect(&servers.rabbitmq, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .basic_qos((BATCH * (SLOTS + 1)) as u16, BasicQosOptions::default())
        .await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let watch = Stopwatch::start();
    let consumer = channel
        .basic_consume(
            queue.into(),
            "floor".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let batches = consumer
        .take(usize::try_from(records)?)
        .ready_chunks(BATCH)
        .map(|deliveries| {
            let (pool, http) = (&pool, &http);
            async move {
                let mut tasks = Vec::new();
                let mut acks = Vec::new();
                for delivery in deliveries {
                    let delivery = delivery?;
                    let message: serde_json::Value = serde_json::from_slice(&delivery.data)?;
                    tasks.push(message["task"].as_i64().unwrap_or_default());
                    acks.push(delivery);
                }
                let payloads = load(pool, &tasks).await?;
                let sent: Vec<Outcome> = stream::iter(payloads)
                    .map(|payload| async move {
                        let answer = http
                            .post(format!("{target}/records"))
                            .header("content-type", "application/json")
                            .body(payload)
                            .send()
                            .await?;
                        answer.bytes().await?;
                        Ok(())
                    })
                    .buffer_unordered(CALLS)
                    .collect()
                    .await;
                sent.into_iter().collect::<Outcome>()?;
                settle(pool, &tasks).await?;
                for delivery in acks {
                    delivery.ack(BasicAckOptions::default()).await?;
                }
                Ok(())
            }
        });
    let ended: Vec<Outcome> = batches.buffer_unordered(SLOTS).collect().await;
    ended.into_iter().collect::<Outcome>()?;
    let figures = watch.stop("floor-out", records);
    connection.close(200, "done".into()).await?;
    Ok(figures)
}

async fn load(pool: &PgPool, tasks: &[i64]) -> Outcome<Vec<String>> {
    Ok(sqlx::query_scalar(
        "select v.data::text from tasks t join versions v on v.master_id = t.master_id and v.version = t.version
         where t.id = any($1)",
    )
    .bind(tasks)
    .fetch_all(pool)
    .await?)
}

async fn settle(pool: &PgPool, tasks: &[i64]) -> Outcome {
    let mut tx = pool.begin().await?;
    sqlx::query("update tasks set state = 'completed' where id = any($1)")
        .bind(tasks)
        .execute(&mut *tx)
        .await?;
    sqlx::query("insert into attempts (task_id, number) select unnest($1::bigint[]), 1 on conflict do nothing")
        .bind(tasks)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}
