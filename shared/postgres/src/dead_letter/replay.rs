//! Replays: ordering one, working it off, looking at it.

use serde_json::Value;
use sluice_core::{Error, ErrorClass, OrganizationId, Result};
use sluice_store::{
    dead_letter::{DeadLetterFilter, DeadLetterState},
    replay::{
        self, EditedLetter, ItemOutcome, NewReplay, Replay, ReplayDetail, ReplayPreview,
        ReplayQuery, ReplayState, StartedReplay,
    },
};
use sqlx::PgConnection;

use super::{
    PAGE,
    handle::{self, Edit},
    log, select,
};
use crate::{
    convert::{big, count, int, seconds, to_json, word},
    error::{Failure, failed, transaction},
    pool::Pool,
};

pub(super) async fn start(pool: &Pool, new: &NewReplay) -> Result<StartedReplay> {
    transaction!(pool, connection => start_once(connection, new).await)
}

async fn start_once(
    connection: &mut PgConnection,
    new: &NewReplay,
) -> Result<StartedReplay, Failure> {
    let organization = new.filter.organization_id.0;
    let known = sqlx::query!(
        "select id, matched from replays where organization_id = $1 and idempotency_key = $2",
        organization,
        new.idempotency_key,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = known {
        return Ok(StartedReplay {
            id: row.id,
            matched: count(row.matched)?,
            existed: true,
        });
    }
    let letters = match new.filter.open() {
        Some(filter) => select(connection, &filter, filter.limit).await?,
        None => Vec::new(),
    };
    let edit = edit(connection, new, &letters).await?;
    let matched = letters.len() as u64;
    let id = sqlx::query_scalar!(
        "insert into replays (organization_id, state, filter, rate, edit_id, actor, note,
            idempotency_key, matched)
        values ($1, 'running', $2::text::json, $3, $4, $5, $6, $7, $8)
        on conflict (organization_id, idempotency_key) where idempotency_key is not null
            do nothing
        returning id",
        organization,
        to_json(&new.filter)?,
        new.rate.map(int),
        edit,
        new.actor,
        new.note,
        new.idempotency_key,
        big(matched),
    )
    .fetch_optional(&mut *connection)
    .await?
    // Somebody else used the key just now: that one is the answer.
    .ok_or(Failure::Overtaken)?;
    sqlx::query!(
        "insert into replay_items (replay_id, dead_letter_id)
        select $1, k.id from unnest($2::bigint[]) k (id)",
        id,
        &letters,
    )
    .execute(&mut *connection)
    .await?;
    let (event, detail) = (
        "replays.started",
        format!("replay {id} of {matched}: {}", new.note),
    );
    log::write(connection, organization, &new.actor, event, &detail).await?;
    Ok(StartedReplay {
        id,
        matched,
        existed: false,
    })
}

/// Keeps edited data, when the one letter allows it.
async fn edit(
    connection: &mut PgConnection,
    new: &NewReplay,
    letters: &[i64],
) -> Result<Option<i64>, Failure> {
    let Some(data) = &new.edit else {
        return Ok(None);
    };
    // More than one is refused all the same, so two are enough to look at.
    let first = letters.get(..2).unwrap_or(letters);
    let rows = sqlx::query!(
        r#"select d.id, d.version, m.current_version, v.change_type = 'delete' as "deleted!"
        from dead_letters d join sync_master_data m on m.id = d.master_data_id
        join data_versions v on v.master_data_id = m.id and v.version_number = m.current_version
        where d.id = any($1::bigint[])"#,
        first,
    )
    .fetch_all(&mut *connection)
    .await?;
    let edited: Vec<EditedLetter> = rows
        .into_iter()
        .map(|row| EditedLetter {
            id: row.id,
            version: row.version,
            current_version: row.current_version,
            deleted: row.deleted,
        })
        .collect();
    let letter = replay::check_edit(&edited)?;
    let id = sqlx::query_scalar!(
        "insert into payload_edits (organization_id, dead_letter_id, version, data, actor, note)
        values ($1, $2, $3, $4::text::json, $5, $6) returning id",
        new.filter.organization_id.0,
        letter.id,
        letter.version,
        to_json(data)?,
        new.actor,
        new.note,
    )
    .fetch_one(connection)
    .await?;
    Ok(Some(id))
}

pub(super) async fn preview(pool: &Pool, filter: &DeadLetterFilter) -> Result<ReplayPreview> {
    let Some(filter) = filter.open() else {
        return Ok(ReplayPreview::default());
    };
    transaction!(pool, connection => preview_once(connection, &filter).await)
}

async fn preview_once(
    connection: &mut PgConnection,
    filter: &DeadLetterFilter,
) -> Result<ReplayPreview, Failure> {
    let mut preview = ReplayPreview::default();
    let letters = select(&mut *connection, filter, filter.limit).await?;
    for page in letters.chunks(PAGE as usize) {
        for one in handle::look(&mut *connection, page, None).await? {
            preview.count(one.outcome);
        }
    }
    Ok(preview)
}

pub(super) async fn work(pool: &Pool, most: u32) -> Result<Option<u64>> {
    transaction!(pool, connection => work_once(connection, most).await)
}

async fn work_once(connection: &mut PgConnection, most: u32) -> Result<Option<u64>, Failure> {
    let Some(replay) = due(connection).await? else {
        return Ok(None);
    };
    let size = replay::batch(replay.rate, most);
    let letters = sqlx::query_scalar!(
        "select dead_letter_id from replay_items
        where replay_id = $1 and outcome is null order by dead_letter_id limit $2",
        replay.id,
        i64::from(size),
    )
    .fetch_all(&mut *connection)
    .await?;
    let (actor, note) = (&replay.actor, Some(&*replay.note));
    let outcomes = handle::put_back(connection, &letters, replay.edit, actor, note).await?;
    let (ids, words): (Vec<i64>, Vec<String>) = outcomes
        .iter()
        .map(|(id, outcome)| (*id, outcome.as_str().to_owned()))
        .unzip();
    sqlx::query!(
        // Joined with the list, the planner would read the whole set for each batch.
        "update replay_items i
        set outcome = ($3::text[])[array_position($2::bigint[], i.dead_letter_id)]
        where i.replay_id = $1 and i.dead_letter_id = any($2::bigint[])",
        replay.id,
        &ids,
        &words,
    )
    .execute(&mut *connection)
    .await?;
    let all = letters.len() as u64;
    let replayed = handle::replayed(&outcomes);
    sqlx::query!(
        "update replays
        set replayed = replayed + $2, skipped = skipped + $3,
            due_date = clock_timestamp() + make_interval(secs => $4::float8),
            state = case when $5 then 'done' else state end,
            finished_date = case when $5 then clock_timestamp() end
        where id = $1",
        replay.id,
        big(replayed),
        big(all - replayed),
        seconds(replay::pause(replay.rate, size)),
        all < u64::from(size),
    )
    .execute(connection)
    .await?;
    Ok(Some(all))
}

/// A replay whose turn it is.
struct Due {
    id: i64,
    rate: Option<u32>,
    edit: Option<Edit>,
    actor: String,
    note: String,
}

/// Locks the one that waited longest, so that several go on side by side; those in the hands of
/// other workers are passed over.
async fn due(connection: &mut PgConnection) -> Result<Option<Due>, Failure> {
    let row = sqlx::query!(
        r#"select r.id, r.rate, e.id as "edit?", e.version as "version?", r.actor, r.note
        from replays r left join payload_edits e on e.id = r.edit_id
        where r.state = 'running' and r.due_date <= clock_timestamp()
        order by r.due_date, r.id limit 1 for no key update of r skip locked"#,
    )
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let edit = match (row.edit, row.version) {
        (Some(id), Some(version)) => Some(Edit { id, version }),
        _ => None,
    };
    Ok(Some(Due {
        id: row.id,
        rate: row.rate.map(count).transpose()?,
        edit,
        actor: row.actor,
        note: row.note,
    }))
}

pub(super) async fn list(pool: &Pool, query: &ReplayQuery) -> Result<Vec<Replay>> {
    transaction!(pool, connection => find(connection, query, None).await)
}

async fn one(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: i64,
) -> Result<Option<Replay>, Failure> {
    let query = ReplayQuery {
        organization_id: organization,
        state: None,
        after: None,
        limit: 1,
    };
    Ok(find(connection, &query, Some(id)).await?.pop())
}

async fn find(
    connection: &mut PgConnection,
    query: &ReplayQuery,
    id: Option<i64>,
) -> Result<Vec<Replay>, Failure> {
    let rows = sqlx::query!(
        r#"select id, state, filter as "filter: Value", rate, edit_id, matched, replayed, skipped,
            actor, note, created_date, finished_date
        from replays
        where organization_id = $1 and ($2::text is null or state = $2)
            and ($3::bigint is null or id < $3) and ($4::bigint is null or id = $4)
        order by id desc limit $5"#,
        query.organization_id.0,
        query.state.map(ReplayState::as_str),
        query.after,
        id,
        i64::from(query.limit),
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Replay {
                id: row.id,
                organization_id: query.organization_id,
                state: word(ReplayState::parse(&row.state))?,
                filter: row.filter,
                rate: row.rate.map(count).transpose()?,
                edited: row.edit_id.is_some(),
                matched: count(row.matched)?,
                replayed: count(row.replayed)?,
                skipped: count(row.skipped)?,
                actor: row.actor,
                note: row.note,
                created_at: row.created_date,
                finished_at: row.finished_date,
            })
        })
        .collect()
}

pub(super) async fn detail(
    pool: &Pool,
    organization: OrganizationId,
    id: i64,
) -> Result<Option<ReplayDetail>> {
    let found = transaction!(pool, connection => one(connection, organization, id).await)?;
    let Some(replay) = found else {
        return Ok(None);
    };
    let rows = sqlx::query!(
        r#"select i.outcome, d.state, count(*) as "letters!"
        from replay_items i join dead_letters d on d.id = i.dead_letter_id
        where i.replay_id = $1 group by i.outcome, d.state"#,
        id,
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let counts = rows
        .into_iter()
        .map(|row| {
            let outcome = row
                .outcome
                .map(|text| word(ItemOutcome::parse(&text)))
                .transpose()?;
            let state = word(DeadLetterState::parse(&row.state))?;
            Ok((outcome, state, count(row.letters)?))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Some(ReplayDetail::new(replay, counts)))
}

pub(super) async fn change(
    pool: &Pool,
    organization: OrganizationId,
    id: i64,
    to: ReplayState,
    actor: &str,
    note: &str,
) -> Result<Replay> {
    transaction!(pool, connection => change_once(connection, organization, id, to, actor, note).await)
}

async fn change_once(
    connection: &mut PgConnection,
    organization: OrganizationId,
    id: i64,
    to: ReplayState,
    actor: &str,
    note: &str,
) -> Result<Replay, Failure> {
    let unknown = || {
        Error::new(
            ErrorClass::NotFound,
            "replay_unknown",
            format!("there is no replay {id}"),
        )
    };
    // Waits for the batch that is being worked on.
    sqlx::query!("select id from replays where id = $1 for no key update", id)
        .fetch_optional(&mut *connection)
        .await?;
    let replay = one(connection, organization, id)
        .await?
        .ok_or_else(unknown)?;
    if replay.state == to {
        return Ok(replay);
    }
    let state = replay.state.step(to)?.as_str();
    sqlx::query!(
        "update replays set state = $2, due_date = clock_timestamp(),
            finished_date = case when $2 = 'cancelled' then clock_timestamp() end
        where id = $1",
        id,
        state,
    )
    .execute(&mut *connection)
    .await?;
    let (event, detail) = (format!("replays.{state}"), format!("replay {id}: {note}"));
    log::write(connection, organization.0, actor, &event, &detail).await?;
    Ok(one(connection, organization, id)
        .await?
        .ok_or_else(unknown)?)
}
