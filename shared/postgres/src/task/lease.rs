//! Keeping leases.

use std::{collections::HashSet, time::Duration};

use sluice_core::Result;
use sluice_store::task::Lease;

use crate::{convert::seconds, error::failed, pool::Pool};

/// A lease that ran out but was taken by nobody still counts as held: nobody else can have begun.
pub(crate) async fn renew(pool: &Pool, leases: &[Lease], by: Duration) -> Result<Vec<bool>> {
    let ids: Vec<i64> = leases.iter().map(|lease| lease.task_id.0).collect();
    let epochs: Vec<i64> = leases.iter().map(|lease| lease.epoch).collect();
    // The state is looked at last: by its index the planner would look through all that runs.
    let rows = sqlx::query!(
        "with held as (
            select q.id, q.state
            from unnest($1::bigint[], $2::bigint[]) k (id, epoch)
            join sync_queue q on q.id = k.id
            where q.lease_epoch = k.epoch
            order by q.master_data_id, q.connection_id, q.id
            for no key update of q
        )
        update sync_queue q
        set lease_until = clock_timestamp() + make_interval(secs => $3::float8)
        from held where q.id = held.id and held.state = 'running'
        returning q.id, q.lease_epoch",
        &ids,
        &epochs,
        seconds(by),
    )
    .fetch_all(pool)
    .await
    .map_err(failed)?;
    let held: HashSet<(i64, i64)> = rows
        .into_iter()
        .map(|row| (row.id, row.lease_epoch))
        .collect();
    Ok(leases
        .iter()
        .map(|lease| held.contains(&(lease.task_id.0, lease.epoch)))
        .collect())
}
