//! `sync_master_data.sync_status`, derived from the record's push tasks.

use sluice_core::{MasterId, Result};
use sqlx::SqliteConnection;

use crate::sql::{convert::to_json, failed};

/// `failed` when a push is dead or its outcome unknown, `retry` when one waits after a failure,
/// `pending` when one is open, else `synced`. The message is that of the newest failure.
pub(crate) async fn derive(connection: &mut SqliteConnection, records: &[MasterId]) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let ids = to_json(records)?;
    sqlx::query!(
        "update sync_master_data as m set
            sync_status = case
                when exists (select 1 from sync_queue q where q.kind = 'push'
                    and q.master_data_id = m.id and q.state in ('dead', 'unknown')) then 'failed'
                when exists (select 1 from sync_queue q where q.kind = 'push'
                    and q.master_data_id = m.id and q.retry_count > 0
                    and q.state in ('pending', 'staged', 'running', 'waiting')) then 'retry'
                when exists (select 1 from sync_queue q where q.kind = 'push'
                    and q.master_data_id = m.id
                    and q.state in ('pending', 'staged', 'running', 'waiting')) then 'pending'
                else 'synced' end,
            error_message = (select q.error_message from sync_queue q where q.kind = 'push'
                and q.master_data_id = m.id and q.error_message is not null
                order by q.modified_date desc limit 1)
        where m.id in (select value from json_each(?1))",
        ids,
    )
    .execute(connection)
    .await
    .map_err(failed)?;
    Ok(())
}
