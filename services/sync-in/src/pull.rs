//! One pull task, from its claim to its settlement.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use serde_json::Value;
use sluice_connectors::{http::Terms, source::SliceRequest};
use sluice_core::{
    Error, ErrorClass, Result, Timestamp,
    retry::{self, Next, Outage, RetryPolicy, Tried},
    run::{RunCounts, RunKind},
};
use sluice_runtime::{
    Shutdown,
    failpoint::{self, Point},
    metrics as names, telemetry,
};
use sluice_store::task::{
    self, Attempt, AttemptError, Checkpoint, PullNext, PullSettlement, PullSpec, PullTask,
    StreamState,
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, MissedTickBehavior},
};
use tracing::Instrument;

use crate::{SourceConnection, SyncIn, ingest::Origin, places::Place, read, reprocess};

/// How work on a pull ended, when it did not fail.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Everything was read; further slices may have been found instead. `calls` are those that
    /// no page counts.
    Done { spawn: Vec<PullSpec>, calls: u64 },
    /// Shutdown, a paused run, or others' turn: the rest is for later.
    Stopped,
}

impl Ended {
    /// Everything was read, and the pages counted it.
    pub(crate) const DONE: Self = Self::Done {
        spawn: Vec::new(),
        calls: 0,
    };
}

/// A claimed pull and everything around it.
pub(crate) struct Pull {
    pub(crate) context: Arc<SyncIn>,
    pub(crate) source: Arc<SourceConnection>,
    pub(crate) task: PullTask,
    pub(crate) shutdown: Shutdown,
    /// When the run's cursor windows end.
    pub(crate) now: Timestamp,
    /// Calls made so far.
    pub(crate) calls: AtomicU64,
    /// A suspect's turn; given back with the first progress, which clears it.
    turn: Mutex<Option<OwnedSemaphorePermit>>,
    place: Place,
    /// A page was finished since the claim.
    progressed: AtomicBool,
}

/// Works on a claimed pull and settles it.
pub(crate) async fn run(
    context: Arc<SyncIn>,
    source: Arc<SourceConnection>,
    task: PullTask,
    place: Place,
    turn: Option<OwnedSemaphorePermit>,
    shutdown: Shutdown,
) {
    let span = tracing::info_span!(
        "pull",
        source = source.connection.spec.name,
        stream = task.spec.stream,
        run.id = task.run_id.0,
        task.id = task.lease.task_id.0,
    );
    telemetry::continue_from(&span, task.traceparent.as_deref());
    let pull = Pull {
        context,
        source,
        task,
        shutdown,
        now: Utc::now(),
        calls: AtomicU64::new(0),
        turn: Mutex::new(turn),
        place,
        progressed: AtomicBool::new(false),
    };
    pull.work().instrument(span).await;
}

impl Pull {
    async fn work(self) {
        let began = Instant::now();
        let (outcome, outage) = tokio::select! {
            outcome = Terms::watch_outage(Box::pin(self.read())) => outcome,
            () = self.keep_lease() => {
                tracing::warn!("the lease was lost; another worker goes on");
                return;
            }
        };
        let error = outcome.as_ref().err().cloned();
        let next = match outcome {
            Ok(Ended::Done { spawn, calls }) => PullNext::Done {
                state: None,
                counts: RunCounts {
                    calls,
                    ..RunCounts::default()
                },
                spawn,
            },
            Ok(Ended::Stopped) => PullNext::Snooze {
                after: Duration::ZERO,
            },
            Err(error) => self.after(&error, outage),
        };
        let calls = self.calls.load(Ordering::Relaxed);
        let settlement = PullSettlement {
            lease: self.task.lease,
            attempt: Attempt {
                started_at: self.now,
                duration: began.elapsed(),
                calls: u32::try_from(calls).unwrap_or(u32::MAX),
                error: error.as_ref().map(AttemptError::from),
                reason: None,
                worker: self.context.worker.clone(),
                trace_id: telemetry::traceparent_within(self.task.traceparent.as_deref())
                    .and_then(|parent| task::trace_id(&parent)),
            },
            next,
        };
        failpoint::reach(Point::SyncInRead).await;
        match self.context.backends.tasks.settle_pull(&settlement).await {
            Ok(true) => {}
            Ok(false) => tracing::debug!("settled by somebody else, or its run has ended"),
            // The lease runs out, and the pull goes on from its last checkpoint.
            Err(error) => tracing::warn!(error = error.chain(), "pull could not be settled"),
        }
    }

    async fn read(&self) -> Result<Ended> {
        match (self.task.run_kind, &self.task.spec.slice) {
            (RunKind::Reprocess, _) => reprocess::stream(self).await,
            (_, Some(slice)) => read::slice(self, slice.clone()).await,
            (_, None) => match read::planned_slice(self.task.progress.as_ref()) {
                Some(slice) => read::slice(self, slice).await,
                None => self.plan().await,
            },
        }
    }

    /// Finds the slices of the stream: one is read at once, several become tasks of their own.
    async fn plan(&self) -> Result<Ended> {
        let spec = &self.task.spec;
        let states = self
            .context
            .backends
            .tasks
            .stream_states(self.source.connection.id, &spec.stream)
            .await?;
        let request = SliceRequest {
            stream: spec.stream.clone(),
            kind: self.task.run_kind,
            states: states
                .into_iter()
                .map(|state| (state.partition, state.state))
                .collect(),
            since: spec.since,
            record: spec.record.clone(),
            now: self.now,
        };
        // A stream whose slices are records of another one is planned by reading that one. Nothing
        // else of the run reads while a step is planned, so the difference is ours.
        let before = self.source.http.calls();
        let mut slices = self.source.source.slices(&request).await?;
        let calls = self.source.http.calls().saturating_sub(before);
        self.calls.fetch_add(calls, Ordering::Relaxed);
        if slices.len() > 1 {
            let spawn = slices
                .into_iter()
                .map(|slice| PullSpec {
                    slice: Some(slice),
                    ..spec.clone()
                })
                .collect();
            return Ok(Ended::Done { spawn, calls });
        }
        let ended = match slices.pop() {
            Some(slice) => read::slice(self, slice).await?,
            None => Ended::DONE,
        };
        Ok(match ended {
            Ended::Done { spawn, .. } => Ended::Done { spawn, calls },
            Ended::Stopped => Ended::Stopped,
        })
    }

    /// What all records of this pull have in common; evaluated inside a page's span.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            run_id: Some(self.task.run_id),
            traceparent: telemetry::traceparent_within(self.task.traceparent.as_deref()),
            dry_run: self.task.spec.dry_run,
            only: self.task.spec.record.clone(),
        }
    }

    /// Moves the checkpoint behind a page that is durable and processed (promise I1). `false`
    /// means stop: another worker has the lease, or the run does not run.
    pub(crate) async fn checkpoint(
        &self,
        progress: Value,
        state: Option<(String, Value)>,
        counts: RunCounts,
    ) -> Result<bool> {
        let state = state
            .filter(|_| self.keeps_cursor())
            .map(|(partition, state)| StreamState {
                stream: self.task.spec.stream.clone(),
                partition,
                state,
            });
        let goes_on = self
            .context
            .backends
            .tasks
            .checkpoint(&Checkpoint {
                lease: self.task.lease,
                progress,
                state,
                counts,
                lease_for: self.context.settings.lease,
            })
            .await?;
        self.turn
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.progressed.store(true, Ordering::Relaxed);
        Ok(goes_on)
    }

    /// Only runs that read on from where the last one stopped may say where the next one starts:
    /// after a run with an earlier or later start of its own, a cursor would promise that
    /// everything before it was read (promise I3).
    fn keeps_cursor(&self) -> bool {
        let spec = &self.task.spec;
        matches!(self.task.run_kind, RunKind::Full | RunKind::Incremental)
            && !spec.dry_run
            && spec.since.is_none()
            && spec.record.is_none()
    }

    /// Whether to stop at the next page border: at shutdown, and when others have waited long
    /// enough, but never without a step forward.
    pub(crate) fn stopping(&self) -> bool {
        let progressed = self.progressed.load(Ordering::Relaxed);
        self.shutdown.soft.is_cancelled()
            || (progressed && self.place.is_due(self.context.settings.turn))
    }

    /// Renews the lease while a slow source answers; ends when it is lost.
    async fn keep_lease(&self) {
        let lease = self.context.settings.lease;
        let mut clock = tokio::time::interval(lease / 3);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        clock.tick().await;
        loop {
            clock.tick().await;
            let tasks = &self.context.backends.tasks;
            match tasks.renew(&[self.task.lease], lease).await {
                Ok(held) if held.first() == Some(&false) => return,
                Ok(_) => {}
                // A checkpoint or the settlement will tell whether it was lost meanwhile.
                Err(error) => tracing::warn!(error = error.chain(), "lease not renewed"),
            }
        }
    }

    fn after(&self, error: &Error, outage: Option<Outage>) -> PullNext {
        tracing::warn!(
            error.class = error.class().as_str(),
            error.code = error.code(),
            error = error.chain(),
            "pull failed"
        );
        let policy = RetryPolicy {
            max_retries: self.task.max_retries,
            ..self.source.connection.spec.retry.clone()
        };
        let tried = Tried {
            attempts: self.task.retry_count.saturating_add(1),
            limited_for: self.task.limited_for,
            outage,
        };
        match retry::decide(error, tried, &policy, &mut rand::rng()) {
            Next::RetryAfter(after) => {
                count_retry(&self.source, error.class());
                PullNext::Retry { after }
            }
            Next::SnoozeFor(after) => PullNext::Snooze { after },
            Next::Dead => PullNext::Dead,
        }
    }
}

fn count_retry(source: &SourceConnection, class: ErrorClass) {
    metrics::counter!(
        names::RETRIES,
        "queue" => format!("sluice.pull.{}.{}", source.organization, source.connection.spec.name),
        "error_class" => class.as_str()
    )
    .increment(1);
}
