//! Replays: ordering one, working it off, looking at it.

use sluice_core::{Error, ErrorClass, OrganizationId, Result};
use sluice_store::{
    dead_letter::{DeadLetterFilter, DeadLetterState},
    replay::{
        self, EditedLetter, ItemOutcome, NewReplay, Replay, ReplayDetail, ReplayPreview,
        ReplayQuery, ReplayState, StartedReplay,
    },
};
use sqlx::SqliteConnection;

use super::{
    PAGE,
    handle::{self, Edit},
    log, select,
};
use crate::sql::{
    EmbeddedSql,
    convert::{from_json, micros, now, number, time, time_option, to_json, word},
    failed,
};

pub(super) async fn start(sql: &EmbeddedSql, new: &NewReplay) -> Result<StartedReplay> {
    let organization = new.filter.organization_id.0;
    let mut tx = sql.begin().await?;
    let known = sqlx::query!(
        r#"select id as "id!: i64", matched as "matched!: i64" from replays
        where organization_id = ?1 and idempotency_key = ?2"#,
        organization,
        new.idempotency_key,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed)?;
    if let Some(row) = known {
        return Ok(StartedReplay {
            id: row.id,
            matched: number(row.matched)?,
            existed: true,
        });
    }
    let letters = match new.filter.open() {
        Some(filter) => select(&mut tx, &filter, filter.limit).await?,
        None => Vec::new(),
    };
    let edit = edit(&mut tx, new, &letters).await?;
    let (filter, now, matched) = (to_json(&new.filter)?, now(), letters.len() as u64);
    let (count, letters) = (
        i64::try_from(matched).unwrap_or(i64::MAX),
        to_json(&letters)?,
    );
    let id = sqlx::query_scalar!(
        r#"insert into replays (organization_id, state, filter, rate, edit_id, actor, note,
            idempotency_key, matched, due_date, created_date)
        values (?1, 'running', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)
        returning id as "id!: i64""#,
        organization,
        filter,
        new.rate,
        edit,
        new.actor,
        new.note,
        new.idempotency_key,
        count,
        now,
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(failed)?;
    sqlx::query!(
        "insert into replay_items (replay_id, dead_letter_id)
        select ?1, value from json_each(?2)",
        id,
        letters,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let detail = format!("replay {id} of {matched}: {}", new.note);
    log::write(
        &mut tx,
        organization,
        &new.actor,
        "replays.started",
        &detail,
    )
    .await?;
    tx.commit().await.map_err(failed)?;
    Ok(StartedReplay {
        id,
        matched,
        existed: false,
    })
}

/// Keeps edited data, when the one letter allows it.
async fn edit(
    connection: &mut SqliteConnection,
    new: &NewReplay,
    letters: &[i64],
) -> Result<Option<i64>> {
    let Some(data) = &new.edit else {
        return Ok(None);
    };
    // More than one is refused all the same, so two are enough to look at.
    let first = to_json(letters.get(..2).unwrap_or(letters))?;
    let rows = sqlx::query!(
        r#"select d.id as "id!: i64", d.version as "version!: i64",
            m.current_version as "current!: i64", v.change_type = 'delete' as "deleted!: bool"
        from dead_letters d join sync_master_data m on m.id = d.master_data_id
        join data_versions v on v.master_data_id = m.id and v.version_number = m.current_version
        where d.id in (select value from json_each(?1))"#,
        first,
    )
    .fetch_all(&mut *connection)
    .await
    .map_err(failed)?;
    let edited: Vec<EditedLetter> = rows
        .into_iter()
        .map(|row| {
            Ok(EditedLetter {
                id: row.id,
                version: number(row.version)?,
                current_version: number(row.current)?,
                deleted: row.deleted,
            })
        })
        .collect::<Result<_>>()?;
    let letter = replay::check_edit(&edited)?;
    let (data, now) = (to_json(data)?, now());
    let id = sqlx::query_scalar!(
        r#"insert into payload_edits (organization_id, dead_letter_id, version, data, actor, note,
            created_date)
        values (?1, ?2, ?3, ?4, ?5, ?6, ?7) returning id as "id!: i64""#,
        new.filter.organization_id.0,
        letter.id,
        letter.version,
        data,
        new.actor,
        new.note,
        now,
    )
    .fetch_one(connection)
    .await
    .map_err(failed)?;
    Ok(Some(id))
}

pub(super) async fn preview(sql: &EmbeddedSql, filter: &DeadLetterFilter) -> Result<ReplayPreview> {
    let mut preview = ReplayPreview::default();
    let Some(filter) = filter.open() else {
        return Ok(preview);
    };
    let mut tx = sql.read().begin().await.map_err(failed)?;
    let letters = select(&mut tx, &filter, filter.limit).await?;
    for page in letters.chunks(PAGE as usize) {
        for (_, _, outcome) in handle::look(&mut tx, page, None).await? {
            preview.count(outcome);
        }
    }
    Ok(preview)
}

/// A look without the write lock comes first, since there is mostly nothing to do.
pub(super) async fn work(sql: &EmbeddedSql, most: u32) -> Result<Option<u64>> {
    if due(&mut *sql.read().acquire().await.map_err(failed)?)
        .await?
        .is_none()
    {
        return Ok(None);
    }
    let mut tx = sql.begin().await?;
    let Some(replay) = due(&mut tx).await? else {
        return Ok(None);
    };
    let size = replay::batch(replay.rate, most);
    let letters = sqlx::query_scalar!(
        r#"select dead_letter_id as "id!: i64" from replay_items
        where replay_id = ?1 and outcome is null order by dead_letter_id limit ?2"#,
        replay.id,
        size,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?;
    let (actor, note) = (&replay.actor, Some(&*replay.note));
    let outcomes = handle::put_back(&mut tx, &letters, replay.edit, actor, note).await?;
    keep(&mut tx, replay.id, &outcomes).await?;
    let replayed = handle::replayed(&outcomes);
    let (replayed, all) = (
        i64::try_from(replayed).unwrap_or(i64::MAX),
        i64::try_from(letters.len()).unwrap_or(i64::MAX),
    );
    let done = all < i64::from(size);
    let now = now();
    let due = now.saturating_add(micros(replay::pause(replay.rate, size)));
    sqlx::query!(
        "update replays set replayed = replayed + ?2, skipped = skipped + ?3, due_date = ?4,
            state = iif(?5, 'done', state), finished_date = iif(?5, ?6, null)
        where id = ?1",
        replay.id,
        replayed,
        all - replayed,
        due,
        done,
        now,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    tx.commit().await.map_err(failed)?;
    Ok(Some(letters.len() as u64))
}

/// A replay whose turn it is.
struct Due {
    id: i64,
    rate: Option<u32>,
    edit: Option<Edit>,
    actor: String,
    note: String,
}

/// The one that waited longest, so that several go on side by side.
async fn due(connection: &mut SqliteConnection) -> Result<Option<Due>> {
    let now = now();
    sqlx::query!(
        r#"select r.id as "id!: i64", r.rate as "rate?: i64", e.id as "edit?: i64",
            e.version as "version?: i64", r.actor as "actor!: String", r.note as "note!: String"
        from replays r left join payload_edits e on e.id = r.edit_id
        where r.state = 'running' and r.due_date <= ?1 order by r.due_date, r.id limit 1"#,
        now,
    )
    .fetch_optional(connection)
    .await
    .map_err(failed)?
    .map(|row| {
        let edit = match (row.edit, row.version) {
            (Some(id), Some(version)) => Some(Edit {
                id,
                version: number(version)?,
            }),
            _ => None,
        };
        Ok(Due {
            id: row.id,
            rate: row.rate.map(number).transpose()?,
            edit,
            actor: row.actor,
            note: row.note,
        })
    })
    .transpose()
}

/// A statement per outcome, so that each row is found by its key.
async fn keep(
    connection: &mut SqliteConnection,
    replay: i64,
    outcomes: &[(i64, ItemOutcome)],
) -> Result<()> {
    for outcome in ItemOutcome::ALL {
        let letters: Vec<i64> = outcomes
            .iter()
            .filter(|(_, of)| *of == outcome)
            .map(|(id, _)| *id)
            .collect();
        if letters.is_empty() {
            continue;
        }
        let (letters, outcome) = (to_json(&letters)?, outcome.as_str());
        sqlx::query!(
            "update replay_items set outcome = ?2
            where replay_id = ?1 and dead_letter_id in (select value from json_each(?3))",
            replay,
            outcome,
            letters,
        )
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    }
    Ok(())
}

pub(super) async fn list(sql: &EmbeddedSql, query: &ReplayQuery) -> Result<Vec<Replay>> {
    let mut connection = sql.read().acquire().await.map_err(failed)?;
    find(&mut connection, query, None).await
}

async fn one(
    connection: &mut SqliteConnection,
    organization: OrganizationId,
    id: i64,
) -> Result<Option<Replay>> {
    let query = ReplayQuery {
        organization_id: organization,
        state: None,
        after: None,
        limit: 1,
    };
    Ok(find(connection, &query, Some(id)).await?.pop())
}

async fn find(
    connection: &mut SqliteConnection,
    query: &ReplayQuery,
    id: Option<i64>,
) -> Result<Vec<Replay>> {
    let state = query.state.map(ReplayState::as_str);
    sqlx::query!(
        r#"select id as "id!: i64", state as "state!: String", filter as "filter!: String",
            rate as "rate?: i64", edit_id is not null as "edited!: bool",
            matched as "matched!: i64", replayed as "replayed!: i64", skipped as "skipped!: i64",
            actor as "actor!: String", note as "note!: String", created_date as "created!: i64",
            finished_date as "finished?: i64"
        from replays
        where organization_id = ?1 and (?2 is null or state = ?2) and (?3 is null or id < ?3)
            and (?4 is null or id = ?4)
        order by id desc limit ?5"#,
        query.organization_id.0,
        state,
        query.after,
        id,
        query.limit,
    )
    .fetch_all(connection)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        Ok(Replay {
            id: row.id,
            organization_id: query.organization_id,
            state: word(ReplayState::parse(&row.state))?,
            filter: from_json(&row.filter)?,
            rate: row.rate.map(number).transpose()?,
            edited: row.edited,
            matched: number(row.matched)?,
            replayed: number(row.replayed)?,
            skipped: number(row.skipped)?,
            actor: row.actor,
            note: row.note,
            created_at: time(row.created)?,
            finished_at: time_option(row.finished)?,
        })
    })
    .collect()
}

pub(super) async fn detail(
    sql: &EmbeddedSql,
    organization: OrganizationId,
    id: i64,
) -> Result<Option<ReplayDetail>> {
    let mut tx = sql.read().begin().await.map_err(failed)?;
    let Some(replay) = one(&mut tx, organization, id).await? else {
        return Ok(None);
    };
    let counts = sqlx::query!(
        r#"select i.outcome as "outcome?: String", d.state as "state!: String",
            count(*) as "letters!: i64"
        from replay_items i join dead_letters d on d.id = i.dead_letter_id
        where i.replay_id = ?1 group by i.outcome, d.state"#,
        id,
    )
    .fetch_all(&mut *tx)
    .await
    .map_err(failed)?
    .into_iter()
    .map(|row| {
        let outcome = row
            .outcome
            .map(|text| word(ItemOutcome::parse(&text)))
            .transpose()?;
        let state = word(DeadLetterState::parse(&row.state))?;
        Ok((outcome, state, number(row.letters)?))
    })
    .collect::<Result<Vec<_>>>()?;
    Ok(Some(ReplayDetail::new(replay, counts)))
}

pub(super) async fn change(
    sql: &EmbeddedSql,
    organization: OrganizationId,
    id: i64,
    to: ReplayState,
    actor: &str,
    note: &str,
) -> Result<Replay> {
    let unknown = || {
        Error::new(
            ErrorClass::NotFound,
            "replay_unknown",
            format!("there is no replay {id}"),
        )
    };
    let mut tx = sql.begin().await?;
    let replay = one(&mut tx, organization, id).await?.ok_or_else(unknown)?;
    if replay.state == to {
        return Ok(replay);
    }
    let (state, now) = (replay.state.step(to)?.as_str(), now());
    sqlx::query!(
        "update replays set state = ?2, due_date = ?3,
            finished_date = iif(?2 = 'cancelled', ?3, null)
        where id = ?1",
        id,
        state,
        now,
    )
    .execute(&mut *tx)
    .await
    .map_err(failed)?;
    let (event, detail) = (format!("replays.{state}"), format!("replay {id}: {note}"));
    log::write(&mut tx, organization.0, actor, &event, &detail).await?;
    let replay = one(&mut tx, organization, id).await?.ok_or_else(unknown)?;
    tx.commit().await.map_err(failed)?;
    Ok(replay)
}
