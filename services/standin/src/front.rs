//! What happens around every call at every stand-in: arrival, limit, fault, work, ledger.

use std::sync::Mutex;
use std::time::Instant;

use axum::response::Response;
use chrono::{SecondsFormat, Utc};

use crate::fault::{FaultKind, FaultRule, Faults};
use crate::fault_effect;
use crate::ledger::{Effect, Entry, Ledger, lock};
use crate::limit::SlidingLimit;
use crate::options::Options;

/// A call as far as it must be understood before the work begins.
#[derive(Debug, Default)]
pub(crate) struct Call {
    /// The name in ledgers and fault rules.
    pub operation: String,
    /// Business keys of the records the call writes, or the property it reads.
    pub keys: Vec<String>,
    /// For each of these keys, a short hash of what is written.
    pub contents: Vec<String>,
    /// Whether it writes, so that overlaps count.
    pub writes: bool,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

/// What the work of a call came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub response: Response,
    pub effect: Effect,
    /// Keys known only after the work, such as new ids.
    pub keys: Vec<String>,
}

impl Outcome {
    /// An answer that changed nothing.
    pub(crate) fn plain(response: Response) -> Self {
        Self {
            response,
            effect: Effect::default(),
            keys: Vec::new(),
        }
    }
}

/// How a system words the errors every system has.
pub(crate) trait Manner: Send + Sync {
    /// HTTP 429 with the seconds to wait.
    fn too_many(&self, retry_after: u64) -> Response;
    /// HTTP 500.
    fn server_error(&self) -> Response;
    /// A document of this system's language that no parser should survive unbounded.
    fn bomb(&self) -> String;
}

/// The shared state of one stand-in.
pub(crate) struct Front {
    pub options: Options,
    pub ledger: Ledger,
    pub faults: Faults,
    limit: Option<Mutex<SlidingLimit>>,
    started: Instant,
}

impl Front {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            ledger: Ledger::new(options.ledger_entries, options.limit_per_minute),
            faults: Faults::new(options.seed),
            limit: options
                .limit_per_minute
                .map(|limit| Mutex::new(SlidingLimit::new(limit))),
            started: Instant::now(),
            options,
        }
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Answers one call. `work` runs at most once, between the faults that prevent it and
    /// those that spoil its answer.
    pub(crate) async fn answer<F>(&self, manner: &dyn Manner, call: Call, work: F) -> Response
    where
        F: FnOnce(Option<&FaultRule>) -> Outcome,
    {
        let arrived = self.now();
        if let Some(limit) = &self.limit {
            let taken = {
                let mut limit = lock(limit);
                let now = self.micros();
                self.ledger.arrived(now);
                limit.take(now)
            };
            if let Err(wait) = taken {
                self.ledger.over_limit();
                let response = manner.too_many(wait.div_ceil(1_000_000).max(1));
                self.write(call, arrived, None, 429, Vec::new(), Effect::default());
                return response;
            }
        } else {
            self.ledger.arrived(self.micros());
        }
        let fault = self.faults.pick(&call.operation);
        let _under_way = InFlight::begin(&self.ledger, &call);
        if let Some(rule) = &fault {
            match rule.kind {
                FaultKind::Latency => {
                    tokio::time::sleep(rule.delay()).await;
                }
                FaultKind::Timeout => {
                    self.write(
                        call,
                        arrived,
                        Some(rule.kind),
                        0,
                        Vec::new(),
                        Effect::default(),
                    );
                    return fault_effect::hold().await;
                }
                _ => {
                    if let Some(response) = fault_effect::instead(rule, manner) {
                        let status = fault_effect::seen_status(&response);
                        self.write(
                            call,
                            arrived,
                            Some(rule.kind),
                            status,
                            Vec::new(),
                            Effect::default(),
                        );
                        return response;
                    }
                }
            }
        }
        let outcome = work(fault.as_ref());
        let unanswered = matches!(
            fault.as_ref().map(|rule| rule.kind),
            Some(FaultKind::CommitThenTimeout | FaultKind::CommitThenReset)
        );
        let status = if unanswered {
            0
        } else {
            outcome.response.status().as_u16()
        };
        self.write(
            call,
            arrived,
            fault.as_ref().map(|rule| rule.kind),
            status,
            outcome.keys,
            outcome.effect,
        );
        match &fault {
            Some(rule) => fault_effect::afterwards(rule, manner, outcome.response).await,
            None => outcome.response,
        }
    }

    /// RFC 3339, or nothing where nobody keeps it.
    fn now(&self) -> String {
        if self.ledger.keeps_entries() {
            Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true)
        } else {
            String::new()
        }
    }

    fn write(
        &self,
        call: Call,
        arrived: String,
        fault: Option<FaultKind>,
        status: u16,
        more_keys: Vec<String>,
        effect: Effect,
    ) {
        let mut keys = call.keys;
        keys.extend(more_keys);
        self.ledger.write(
            Entry {
                seq: 0,
                arrived,
                at: self.now(),
                operation: call.operation,
                status,
                keys,
                contents: call.contents,
                idempotency_key: call.idempotency_key,
                applied: effect.applied(),
                fault: fault.map(FaultKind::name),
            },
            effect,
        );
    }
}

/// Keeps the ledger's view of running writes right, also when the caller hangs up.
struct InFlight<'a> {
    ledger: &'a Ledger,
    keys: Vec<String>,
}

impl<'a> InFlight<'a> {
    fn begin(ledger: &'a Ledger, call: &Call) -> Self {
        let keys = if call.writes {
            call.keys.clone()
        } else {
            Vec::new()
        };
        ledger.begin(&keys);
        Self { ledger, keys }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.ledger.end(&self.keys);
    }
}
