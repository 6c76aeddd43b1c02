//! `sync_master_data.sync_status`, derived from the record's push tasks.

use sqlx::PgConnection;

use crate::error::Failure;

/// Derives the status anew. The records must be locked. See [`settle`].
pub(crate) async fn derive(connection: &mut PgConnection, records: &[i64]) -> Result<(), Failure> {
    settle(connection, records, &vec![0; records.len()]).await
}

/// `failed` when a push is dead or its outcome unknown, `retry` when one waits after a failure,
/// `pending` when one is open, else `synced`. The message is that of the newest failure. `tries`
/// are the attempts just made for each record. Records that stay the same are not written. The
/// records must be locked, and named once.
pub(crate) async fn settle(
    connection: &mut PgConnection,
    records: &[i64],
    tries: &[i32],
) -> Result<(), Failure> {
    if records.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update sync_master_data m
        set sync_status = s.status, error_message = s.message,
            sync_attempt_count = m.sync_attempt_count + k.tries,
            last_sync_attempt = case when k.tries > 0 then clock_timestamp()
                else m.last_sync_attempt end
        from unnest($1::bigint[], $2::int[]) k (id, tries)
        cross join lateral (
            select
                case
                    when bool_or(q.state in ('dead', 'unknown')) then 'failed'
                    when bool_or(q.retry_count > 0
                        and q.state in ('pending', 'staged', 'running', 'waiting')) then 'retry'
                    when bool_or(q.state in ('pending', 'staged', 'running', 'waiting'))
                        then 'pending'
                    else 'synced'
                end as status,
                (array_agg(q.error_message order by q.modified_date desc)
                    filter (where q.error_message is not null))[1] as message
            from sync_queue q
            where q.kind = 'push' and q.master_data_id = k.id
        ) s
        where m.id = k.id
            and (k.tries > 0 or m.sync_status <> s.status
                or m.error_message is distinct from s.message)",
        records,
        tries,
    )
    .execute(connection)
    .await?;
    Ok(())
}
