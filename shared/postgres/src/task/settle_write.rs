//! What settling writes, one statement per table.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::settle::Settled;
use crate::{
    convert::{int, seconds},
    error::Failure,
};

pub(super) async fn tasks(
    connection: &mut PgConnection,
    settled: &[Settled<'_>],
) -> Result<(), Failure> {
    let text = |f: fn(&Settled<'_>) -> Option<String>| -> Vec<Option<String>> {
        settled.iter().map(f).collect()
    };
    let number = |f: fn(&Settled<'_>) -> Option<i32>| -> Vec<Option<i32>> {
        settled.iter().map(f).collect()
    };
    let ids: Vec<i64> = settled.iter().map(|one| one.held.id.0).collect();
    let states: Vec<String> = settled
        .iter()
        .map(|one| one.outcome.state.as_str().to_owned())
        .collect();
    let retries: Vec<i32> = settled
        .iter()
        .map(|one| int(one.outcome.retry_count))
        .collect();
    let crashes: Vec<i32> = settled
        .iter()
        .map(|one| int(one.outcome.crash_count))
        .collect();
    let refusals: Vec<i32> = settled
        .iter()
        .map(|one| int(one.outcome.refusal_count))
        .collect();
    let limited: Vec<Option<bool>> = settled.iter().map(|one| one.outcome.limited).collect();
    let waits: Vec<Option<f64>> = settled
        .iter()
        .map(|one| one.outcome.wait.map(seconds))
        .collect();
    let blocked = text(|one| one.outcome.blocked_on.clone());
    let delivered = number(|one| one.outcome.delivered_version);
    let intents = number(|one| one.outcome.intent_version);
    let unsettled = number(|one| one.outcome.unsettled_version);
    let classes = text(|one| Some(one.outcome.error?.class.as_str().to_owned()));
    let codes = text(|one| Some(one.outcome.error?.code.clone()));
    let messages = text(|one| Some(one.outcome.error?.message.clone()));
    sqlx::query!(
        "update sync_queue q
        set state = k.state, retry_count = k.retries,
            next_retry_time = clock_timestamp() + make_interval(secs => k.wait),
            blocked_on = k.blocked, delivered_version = k.delivered, intent_version = k.intent,
            unsettled_version = k.unsettled, error_class = k.class, error_code = k.code,
            error_message = k.message, crash_count = k.crashes, refusal_count = k.refusals,
            limited_date = case when k.limited is null then q.limited_date
                when k.limited then coalesce(q.limited_date, clock_timestamp()) end,
            lease_owner = null, lease_until = null,
            change_sequence = next_change(k.place), modified_date = clock_timestamp()
        from unnest($1::bigint[], $2::text[], $3::int[], $4::float8[], $5::text[], $6::int[],
            $7::int[], $8::int[], $9::text[], $10::text[], $11::text[], $12::int[], $13::int[],
            $14::bool[])
            with ordinality k (id, state, retries, wait, blocked, delivered, intent, unsettled,
                class, code, message, crashes, refusals, limited, place)
        where q.id = k.id",
        &ids,
        &states,
        &retries,
        &waits as &[Option<f64>],
        &blocked as &[Option<String>],
        &delivered as &[Option<i32>],
        &intents as &[Option<i32>],
        &unsettled as &[Option<i32>],
        &classes as &[Option<String>],
        &codes as &[Option<String>],
        &messages as &[Option<String>],
        &crashes,
        &refusals,
        &limited as &[Option<bool>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Both sides agree on what was delivered. A record deleted there has no counterpart any more.
pub(super) async fn links(
    connection: &mut PgConnection,
    settled: &[Settled<'_>],
) -> Result<(), Failure> {
    let (mut masters, mut connections, mut external) = (vec![], vec![], vec![]);
    let (mut versions, mut hashes, mut forget) = (vec![], vec![], vec![]);
    for Settled { held, outcome, .. } in settled {
        let Some(link) = &outcome.link else { continue };
        masters.push(held.master_id.0);
        connections.push(held.connection_id.0);
        external.push(link.external_id.filter(|_| !link.forget).map(str::to_owned));
        versions.push(link.version);
        hashes.push(link.hash.map(|hash| hash.to_hex()));
        forget.push(link.forget);
    }
    if masters.is_empty() {
        return Ok(());
    }
    // The word "forget" cannot travel through `excluded`, so the known id is read beside it.
    sqlx::query!(
        "insert into links as l (master_data_id, connection_id, organization_id, entity_type,
            external_id, base_version, pushed_version, pushed_hash, pushed_date)
        select m.id, k.connection_id, m.organization_id, m.entity_type,
            case when not k.forget then coalesce(k.external_id, old.external_id) end,
            k.version, k.version, k.hash, clock_timestamp()
        from unnest($1::bigint[], $2::bigint[], $3::text[], $4::int[], $5::text[], $6::bool[])
            k (master_id, connection_id, external_id, version, hash, forget)
        join sync_master_data m on m.id = k.master_id
        left join links old
            on old.master_data_id = k.master_id and old.connection_id = k.connection_id
        on conflict (master_data_id, connection_id) do update
        set external_id = excluded.external_id, base_version = excluded.base_version,
            pushed_version = excluded.pushed_version, pushed_hash = excluded.pushed_hash,
            pushed_date = excluded.pushed_date",
        &masters,
        &connections,
        &external as &[Option<String>],
        &versions,
        &hashes as &[Option<String>],
        &forget,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Children wait for the link, so a delivery without an external id releases nobody. Each child
/// is released once, because releasing forgets what it waited for (promise O7). Children in the
/// hands of others are left to the rescue timer: waiting for them could deadlock.
pub(super) async fn release_children(
    connection: &mut PgConnection,
    settled: &[Settled<'_>],
) -> Result<(), Failure> {
    let (mut masters, mut connections, mut keys) = (vec![], vec![], vec![]);
    for Settled { held, outcome, .. } in settled {
        if outcome.link.as_ref().is_some_and(|link| !link.forget) {
            masters.push(held.master_id.0);
            connections.push(held.connection_id.0);
            keys.push(held.blocking_key());
        }
    }
    if masters.is_empty() {
        return Ok(());
    }
    // The state is looked at last: by its index the planner would look through all that waits.
    sqlx::query!(
        "with children as materialized (
            select q.id, q.state
            from unnest($1::bigint[], $2::bigint[], $3::text[]) k (master_id, connection_id, key)
            join links l on l.master_data_id = k.master_id and l.connection_id = k.connection_id
                and l.external_id is not null
            join sync_queue q on q.connection_id = k.connection_id and q.blocked_on = k.key
            for no key update of q skip locked
        ), numbered as (
            select id, row_number() over () as place from children where state = 'waiting'
        )
        update sync_queue q
        set state = 'pending', blocked_on = null, change_sequence = next_change(524288 + n.place),
            modified_date = clock_timestamp()
        from numbered n where q.id = n.id",
        &masters,
        &connections,
        &keys,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The record's own columns: when it was last tried, how often, and its derived status.
pub(super) async fn records(
    connection: &mut PgConnection,
    settled: &[Settled<'_>],
) -> Result<(), Failure> {
    let mut tries: BTreeMap<i64, i32> = BTreeMap::new();
    for one in settled {
        let tried = i32::from(one.outcome.attempt.is_some());
        *tries.entry(one.held.master_id.0).or_default() += tried;
    }
    let (masters, tries): (Vec<i64>, Vec<i32>) = tries.into_iter().unzip();
    crate::master::status::settle(connection, &masters, &tries).await
}
