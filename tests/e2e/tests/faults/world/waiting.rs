//! How far the work has come, and waiting for it.

use std::time::Duration;

use tokio::time::Instant;

use super::World;

/// Longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// Between two looks.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

impl World {
    /// Whether nothing is left to do.
    pub async fn is_quiet(&self) -> bool {
        let owed = "select count(*) from sync_queue where blocked_on is null
                    and state in ('pending', 'staged', 'running', 'waiting', 'unknown')";
        self.sql.number(owed).await == 0 && self.open_runs().await == 0
    }

    pub(super) async fn open_runs(&self) -> i64 {
        let open = "select count(*) from sync_orchestration
                    where state in ('queued', 'running', 'paused')";
        self.sql.number(open).await
    }

    /// Waits for work to come this many calls further, or to its end.
    pub async fn advance(&mut self, calls: u64) {
        let goal = self.calls().await + calls;
        let further = async |world: &Self| world.calls().await >= goal || world.is_quiet().await;
        self.until("work goes on", further).await;
    }

    /// Waits for a condition; when it does not come, says where the system stands. Services that
    /// die meanwhile come back.
    pub async fn until(&mut self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self).await {
            if Instant::now() > deadline {
                panic!("{what}: not within {PATIENCE:?}\n{}", self.standing().await);
            }
            self.count_deserters().await;
            pause().await;
        }
    }

    /// Open runs, tasks by state and owner, and the end of each service's log.
    async fn standing(&self) -> String {
        let rows: Vec<(String, String, i64)> = self
            .sql
            .rows(
                "select state, coalesce(flow, ''), cast(id as bigint) from sync_orchestration
                 where state in ('queued', 'running', 'paused')
                 union all
                 select state, kind || ' ' || coalesce(target_system, '') || ' ' || coalesce(lease_owner, '')
                    || ' ' || coalesce(error_code, '')
                    || case when blocked_on is null then '' else ' blocked' end,
                    cast(count(*) as bigint)
                 from sync_queue where state not in ('completed', 'cancelled')
                 group by state, kind, target_system, lease_owner, error_code, blocked_on is null",
            )
            .await;
        let mut lines: Vec<_> = rows.iter().map(|row| format!("{row:?}")).collect();
        for service in &self.services {
            lines.push(format!("{}:", service.role));
            let text = service.text();
            let tail: Vec<_> = text.lines().rev().take(4).collect();
            lines.extend(tail.into_iter().rev().map(str::to_owned));
        }
        lines.join("\n")
    }
}
