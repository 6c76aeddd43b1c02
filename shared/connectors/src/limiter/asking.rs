//! The task that asks the store for slots, and tells it what became of the last ones.

use std::{sync::Arc, time::Duration};

use sluice_core::{
    Error, Result,
    traffic::{
        Ask, Grant, Traffic,
        breaker::{Cause, Event},
    },
};
use sluice_runtime::metrics as names;
use tokio::time::timeout;

use super::{DOCUMENT, Inner, LimiterSettings, State, manage};

/// A store that takes longer to answer is away.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

impl Inner {
    /// Makes sure that the store is asked when the share says so.
    pub(super) fn ask_if_due(self: &Arc<Self>, state: &mut State) {
        let Some(at) = state.share.next_ask(self.now()) else {
            return;
        };
        if !state.asking {
            state.asking = true;
            tokio::spawn(Arc::clone(self).ask_while_needed());
        } else if at <= self.now() {
            self.work.notify_one();
        }
    }

    async fn ask_while_needed(self: Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state();
                let now = self.now();
                match state.share.next_ask(now) {
                    None => {
                        state.asking = false;
                        return;
                    }
                    Some(at) if at > now => Err(at),
                    Some(_) => Ok(state.share.ask(now)),
                }
            };
            match next {
                Ok(ask) => self.ask(ask).await,
                Err(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(self.at(at)) => {}
                        () = self.work.notified() => {}
                    }
                }
            }
        }
    }

    /// One exchange with the store.
    async fn ask(&self, ask: Ask) {
        let asked = self.now();
        let blamed = ask.cause.clone();
        let answer = timeout(STORE_TIMEOUT, self.exchange(&ask)).await;
        let answer = answer
            .unwrap_or_else(|_| Err(Error::internal("store_slow", "the store did not answer")));
        let mut state = self.state();
        let now = self.now();
        match answer {
            Ok((grant, event)) => {
                state
                    .share
                    .granted(asked, now, &grant, rand::random::<f64>());
                self.tell(&grant, event, blamed.as_ref());
            }
            Err(error) => {
                tracing::warn!(
                    connection = self.settings.name,
                    error = error.chain(),
                    "limits cannot be asked for"
                );
                state.share.failed(now, ask);
            }
        }
        for line in state.lines.values() {
            line.news.notify_waiters();
        }
    }

    async fn exchange(&self, ask: &Ask) -> Result<(Grant, Option<Event>)> {
        let LimiterSettings {
            fleet,
            connection,
            limits,
            breaker,
            ..
        } = &self.settings;
        let mut answer = None;
        fleet
            .change(*connection, DOCUMENT, &mut |document, clock| {
                let before: Option<Traffic> =
                    document.and_then(|document| serde_json::from_value(document).ok());
                let mut traffic = before.clone().unwrap_or_else(|| Traffic::new(limits));
                answer = Some(traffic.serve(clock, ask, breaker));
                if before.as_ref() == Some(&traffic) {
                    return Ok(None);
                }
                manage::written(&traffic).map(Some)
            })
            .await?;
        answer.ok_or_else(|| Error::internal("store_silent", "the store asked nothing"))
    }

    fn tell(&self, grant: &Grant, event: Option<Event>, cause: Option<&Cause>) {
        let connection = &self.settings.name;
        let (code, cause) = cause.map_or(("unknown", ""), |cause| (&*cause.code, &*cause.message));
        match event {
            Some(Event::Opened { reason, wait_ms }) => {
                tracing::warn!(
                    connection,
                    reason = reason.as_str(),
                    code,
                    cause,
                    wait_ms,
                    "breaker opened"
                );
            }
            Some(Event::StillOpen { wait_ms }) => {
                tracing::warn!(
                    connection,
                    code,
                    cause,
                    wait_ms,
                    "breaker stays open: the probe failed"
                );
            }
            Some(Event::Closed) => tracing::warn!(connection, "breaker closed"),
            None => {}
        }
        let state = match (grant.open_until > 0, grant.guarded) {
            (true, _) => 2.0,
            (false, true) => 1.0,
            (false, false) => 0.0,
        };
        metrics::gauge!(names::BREAKER_STATE, "target" => connection.clone()).set(state);
    }
}
