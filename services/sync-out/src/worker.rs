//! One target connection: slots, picking, claiming.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sluice_connectors::{http::Calls, target::PushOperation};
use sluice_core::{EntityType, QueueClass, TaskId, catalogue::RateLimit};
use sluice_runtime::{
    Shutdown,
    failpoint::{self, Point},
    metrics as names,
    pace::{Again, Pace},
};
use sluice_store::task::{Claim, Claimed, PushTask};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};

use crate::{
    SyncOut, TargetConnection,
    deliver::{self, Deadlines, Delivery},
    inbox::{Desk, Inbox, Intake, Ready, Ticket},
    keep,
    picker::Picker,
    push_queue,
    settle::{self, Settled, Work},
    window::{self, Window, window},
};

/// Outcomes that may wait to be settled before senders have to wait.
const SETTLE_BUFFER: usize = 1_000;
/// A pause of the target longer than this keeps work unclaimed, where priority is still exact.
const SHORT_PAUSE: Duration = Duration::from_millis(1_500);
/// Longest wait between two looks whether a pause is over.
const PAUSE_LOOK: Duration = Duration::from_secs(1);

/// Works for one target until shutdown. When the connection's limits change, what is in hand is
/// finished, and work goes on with a window of the new ones.
pub(crate) async fn run(
    context: Arc<SyncOut>,
    target: Arc<TargetConnection>,
    suspects: Arc<Semaphore>,
    shutdown: Shutdown,
) {
    while !shutdown.soft.is_cancelled() {
        work(&context, &target, &suspects, &shutdown).await;
    }
}

/// Works while the limits stay as they are.
async fn work(
    context: &Arc<SyncOut>,
    target: &Arc<TargetConnection>,
    suspects: &Arc<Semaphore>,
    shutdown: &Shutdown,
) {
    let limits = target.http.limiter().limits();
    let window = window(
        &limits,
        context.settings.batch,
        context.settings.slots,
        records_per_call(target),
    );
    let inbox = Arc::new(Inbox::default());
    let (desk, orders) = Desk::new();
    let (outcomes, settling) = mpsc::channel(SETTLE_BUFFER);
    let mut crew = JoinSet::new();
    for (class, orders) in QueueClass::ALL.into_iter().zip(orders) {
        let intake = Intake {
            broker: context.backends.broker.clone(),
            tasks: context.backends.tasks.clone(),
            connection: target.connection.id,
            queue: push_queue(target, class),
            class,
            prefetch: window.prefetch,
            inbox: inbox.clone(),
            shutdown: shutdown.clone(),
        };
        crew.spawn(intake.run(orders));
    }
    crew.spawn(settle::run(
        context.clone(),
        target.clone(),
        settling,
        desk.clone(),
    ));
    let worker = Worker {
        context: context.clone(),
        target: target.clone(),
        limits: limits.into(),
        inbox,
        desk,
        outcomes,
        suspects: suspects.clone(),
        keeps: keep::kept_types(&target.target).into(),
        calls: Calls::new(target.http.clone()),
        shutdown: shutdown.clone(),
    };
    // Ends the settler and the intakes by dropping what they listen to.
    worker.dispatch(window).await;
    while crew.join_next().await.is_some() {}
}

/// The most records the target takes in one call.
fn records_per_call(target: &TargetConnection) -> usize {
    target
        .target
        .entities()
        .iter()
        .flat_map(|entity| {
            [PushOperation::Create, PushOperation::Update]
                .map(|operation| target.target.batch_size(entity, operation))
        })
        .max()
        .unwrap_or(1)
}

#[derive(Clone)]
struct Worker {
    context: Arc<SyncOut>,
    target: Arc<TargetConnection>,
    /// The limits that the window was made for.
    limits: Arc<[RateLimit]>,
    inbox: Arc<Inbox>,
    desk: Desk,
    outcomes: mpsc::Sender<Settled>,
    /// The one suspect that this process works on, over all targets.
    suspects: Arc<Semaphore>,
    /// Entity types whose creates are kept before they are sent.
    keeps: Arc<[EntityType]>,
    /// Calls in flight to the target.
    calls: Calls,
    shutdown: Shutdown,
}

impl Worker {
    async fn dispatch(self, window: Window) {
        let slots = Arc::new(Semaphore::new(window.slots));
        let mut picker = Picker::default();
        let mut batches = JoinSet::new();
        while let Some(slot) = self.next(&slots, window).await {
            while batches.try_join_next().is_some() {}
            if !self.target.http.limiter().keeps(&self.limits) {
                break;
            }
            // While the breaker lets only probes through, the rest would be claimed in vain.
            let most = if self.target.http.limiter().is_guarded() {
                1
            } else {
                self.claimable(window)
            };
            let picked = self.inbox.pick(&mut picker, most);
            if !picked.is_empty() {
                batches.spawn(self.clone().batch(picked, slot));
            }
        }
        self.desk.release(self.inbox.drain());
        while batches.join_next().await.is_some() {}
    }

    fn claimable(&self, window: Window) -> usize {
        let http = &self.target.http;
        window::claimable(
            window,
            records_per_call(&self.target),
            http.concurrency(),
            http.call_lasts(),
            self.context.settings.lease,
        )
    }

    /// Waits for a slot, for a target that takes calls, and for work, in this order: what is
    /// picked after the wait is the most urgent of what is there by then (promise O8). `None`
    /// when shutdown has begun.
    async fn next(&self, slots: &Arc<Semaphore>, window: Window) -> Option<OwnedSemaphorePermit> {
        let ready = async {
            let slot = slots.clone().acquire_owned().await.ok()?;
            self.target_open().await;
            self.inbox
                .wait(window.claim, self.context.settings.linger)
                .await;
            Some(slot)
        };
        tokio::select! {
            biased;
            () = self.shutdown.soft.cancelled() => None,
            slot = ready => slot,
        }
    }

    /// Waits while the target asked for a pause, and while the breaker is open: nothing is picked
    /// then, so that waiting costs no attempts (promise O4).
    async fn target_open(&self) {
        loop {
            let wait = self.target.http.limiter().wait();
            let usual = self.usual_wait().min(self.context.settings.lease / 4);
            if wait <= SHORT_PAUSE.max(usual) {
                return;
            }
            tokio::time::sleep(wait.min(PAUSE_LOOK)).await;
        }
    }

    /// The time between two calls that the connection's own limits of all calls make.
    fn usual_wait(&self) -> Duration {
        self.limits
            .iter()
            .filter(|limit| limit.counts_all())
            .map(|limit| Duration::from_secs(u64::from(limit.per_seconds)) / limit.calls.max(1))
            .max()
            .unwrap_or_default()
            .mul_f64(1.1)
    }

    /// Claims what was picked and delivers it; the slot is free again when all calls are answered.
    async fn batch(self, picked: Vec<Ready>, slot: OwnedSemaphorePermit) {
        let mut tickets: HashMap<TaskId, Vec<Ticket>> = HashMap::with_capacity(picked.len());
        let mut ids = Vec::with_capacity(picked.len());
        for ready in picked {
            let of_task = tickets.entry(ready.task_id).or_default();
            if of_task.is_empty() {
                ids.push(ready.task_id);
            }
            of_task.push(ready.ticket);
        }
        let Some((found, claimed)) = self.claim(ids, false).await else {
            self.desk.release(tickets.into_values().flatten().collect());
            return;
        };
        failpoint::reach(Point::SyncOutClaimed).await;
        let suspects: Vec<_> = found
            .suspects
            .into_iter()
            .map(|id| (id, tickets.remove(&id).unwrap_or_default()))
            .collect();
        let work: Vec<_> = found
            .tasks
            .into_iter()
            .map(|task| {
                let tickets = tickets.remove(&task.lease.task_id).unwrap_or_default();
                Work::new(task, tickets, claimed)
            })
            .collect();
        // Delivered already, or somebody else's: the messages have nothing to say any more.
        self.desk.ack(tickets.into_values().flatten().collect());
        self.deliver(work, claimed).await;
        drop(slot);
        for (id, tickets) in suspects {
            self.suspect(id, tickets).await;
        }
    }

    /// Works on one push whose last worker died, and on no other meanwhile: what kills this
    /// process now is this push, and its neighbours are not dragged along (promise O8).
    async fn suspect(&self, id: TaskId, tickets: Vec<Ticket>) {
        let turn = tokio::select! {
            biased;
            () = self.shutdown.soft.cancelled() => None,
            turn = self.suspects.clone().acquire_owned() => turn.ok(),
        };
        let Some(turn) = turn else {
            self.desk.release(tickets);
            return;
        };
        match self.claim(vec![id], true).await {
            None => self.desk.release(tickets),
            Some((mut found, claimed)) => match found.tasks.pop() {
                None => self.desk.ack(tickets),
                Some(task) => {
                    let mut work = Work::new(task, tickets, claimed);
                    work.turn = Some(turn);
                    self.deliver(vec![work], claimed).await;
                }
            },
        }
    }

    async fn deliver(&self, work: Vec<Work>, claimed: Instant) {
        let delivery = Delivery {
            context: &self.context,
            target: &self.target,
            outcomes: &self.outcomes,
            calls: &self.calls,
            deadlines: Deadlines::new(claimed, self.context.settings.lease),
        };
        deliver::run(&delivery, work).await;
        metrics::histogram!(
            names::PUSH_DURATION,
            "target" => self.target.connection.spec.name.clone()
        )
        .record(claimed.elapsed());
    }

    /// Claims, waiting while SQL is away. The time is taken before the claim, so that our idea of
    /// the lease ends before the store's. `None` when shutdown has begun.
    async fn claim(
        &self,
        ids: Vec<TaskId>,
        suspects: bool,
    ) -> Option<(Claimed<PushTask>, Instant)> {
        let claim = Claim {
            ids,
            owner: self.context.worker.clone(),
            lease: self.context.settings.lease,
            suspects,
            keeps: self.keeps.to_vec(),
        };
        let mut pace = Pace::new("claiming", &self.shutdown, Duration::ZERO);
        loop {
            let now = Instant::now();
            match self.context.backends.tasks.claim_pushes(&claim).await {
                Ok(claimed) => return Some((claimed, now)),
                Err(error) => {
                    if !pace.next(Err::<Again, _>(error)).await {
                        return None;
                    }
                }
            }
        }
    }
}
