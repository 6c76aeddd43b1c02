//! Dead letters replayed: from the order to the last settled row.

use std::time::Duration;

use chrono::Utc;
use sluice_core::{ErrorClass, QueueClass, task::TaskKind};
use sluice_runtime::Shutdown;
use sluice_store::{
    dead_letter::DeadLetterFilter,
    replay::{NewReplay, ReplayState},
    task::{Attempt, AttemptError, Claim, PushNext, PushSettlement, StageQuota},
};

use crate::{
    Outcome,
    measure::{Figures, Stopwatch},
    product::{HOUR, POLL, Product, WORKER},
};

/// Tasks that die together, before the measurement.
const BATCH: u32 = 500;

impl Product {
    /// Makes a dead letter of everything that waits, shows all of them at the broker, and measures
    /// their replay.
    pub async fn replay(&self, part: &str) -> Outcome<Figures> {
        self.purge().await?;
        self.kill_all().await?;
        let (organization, tasks) = (self.organization()?, &self.backends.tasks);
        let shutdown = Shutdown::manual();
        let services = [
            tokio::spawn(sluice_orchestrator::run(
                self.orchestrator(HOUR),
                shutdown.clone(),
            )),
            tokio::spawn(sluice_sync_out::run(
                self.sync_out_service()?,
                shutdown.clone(),
            )),
        ];
        while !tasks.unmirrored_dead_letters(1).await?.is_empty() {
            tokio::time::sleep(POLL).await;
        }
        let watch = Stopwatch::start();
        let started = tasks
            .start_replay(&NewReplay {
                filter: DeadLetterFilter {
                    limit: u32::MAX,
                    ..DeadLetterFilter::all(organization)
                },
                rate: None,
                edit: None,
                actor: WORKER.to_owned(),
                note: String::new(),
                idempotency_key: None,
            })
            .await?;
        while self.running_replays().await? > 0 {
            tokio::time::sleep(POLL).await;
        }
        self.until_settled().await?;
        let figures = watch.stop(part, started.matched);
        let detail = tasks.replay(organization, started.id).await?;
        let detail = detail.ok_or("the replay has gone")?;
        shutdown.stop();
        for service in services {
            service.await??;
        }
        if detail.resolved != started.matched {
            return Err(format!("{detail:?}").into());
        }
        Ok(figures)
    }

    async fn running_replays(&self) -> Outcome<usize> {
        let query = sluice_store::replay::ReplayQuery {
            organization_id: self.organization()?,
            state: Some(ReplayState::Running),
            after: None,
            limit: 1,
        };
        Ok(self.backends.tasks.replays(&query).await?.len())
    }

    /// Every push that is owed dies, through the ordinary claim and settlement.
    async fn kill_all(&self) -> Outcome {
        let tasks = &self.backends.tasks;
        let connection = self.catalogue.targets().first().map(|target| target.id);
        let connection_id = connection.ok_or("there is no target")?;
        let quotas = QueueClass::ALL.map(|class| StageQuota {
            connection_id,
            kind: TaskKind::Push,
            priorities: class.priorities(),
            limit: BATCH,
        });
        // References of an earlier part were purged.
        self.forget_messages().await?;
        loop {
            let staged = tasks.stage(&quotas).await?;
            if staged.is_empty() {
                return Ok(());
            }
            let claimed = tasks
                .claim_pushes(&Claim {
                    ids: staged.iter().map(|reference| reference.task_id).collect(),
                    owner: WORKER.to_owned(),
                    lease: HOUR,
                    suspects: true,
                    keeps: Vec::new(),
                })
                .await?
                .tasks;
            let settlements: Vec<_> = claimed
                .iter()
                .map(|task| PushSettlement {
                    lease: task.lease,
                    attempt: Attempt {
                        started_at: Utc::now(),
                        duration: Duration::ZERO,
                        calls: 1,
                        error: Some(AttemptError {
                            class: ErrorClass::Validation,
                            code: "bench".to_owned(),
                            message: "refused for the benchmark".to_owned(),
                            http_status: Some(422),
                        }),
                        reason: None,
                        worker: WORKER.to_owned(),
                        trace_id: None,
                    },
                    next: PushNext::Dead,
                    request: None,
                })
                .collect();
            tasks.settle_pushes(&settlements).await?;
        }
    }
}
