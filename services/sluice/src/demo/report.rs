//! The demo's result: a table for people, one JSON object for programs.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::Value;
use sluice_core::Result;
use sluice_standin::compare::{Comparison, Mismatch};
use sluice_store::{
    raw::{InboundState, RawRecordQuery},
    run::Run,
};

use crate::{
    cli::{DemoArgs, OutputFormat},
    context::Context,
    demo::setup::{LESSEN360, ONE, ORGANIZATION, Stage},
    output::{self, out},
};

/// Mismatches listed one by one; the count is always whole.
const SHOWN: usize = 20;

#[derive(Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub duration_ms: u64,
    /// Records read from the source, over all runs.
    pub read: u64,
    /// Raw records stored, each content once.
    pub stored: u64,
    pub rejected: u64,
    pub rejected_reasons: BTreeMap<String, u64>,
    /// Left out by the mapping on purpose, such as pseudo units.
    pub skipped: u64,
    pub created: u64,
    pub updated: u64,
    pub unchanged: u64,
    pub source_calls: u64,
    pub targets: BTreeMap<String, TargetReport>,
    /// Master records and target records compared.
    pub compared: u64,
    pub mismatches: u64,
    pub mismatch_details: Vec<Mismatch>,
}

#[derive(Debug, Serialize)]
pub struct TargetReport {
    pub created: u64,
    pub updated: u64,
    pub linked: u64,
    pub skipped: u64,
    /// Calls the target counted, tokens and look-ups included.
    pub calls: u64,
    /// Versions wanted at the target, less the calls made: what batching, coalescing and skipping
    /// saved against one call per change.
    pub calls_saved: u64,
    pub retries: u64,
    pub dead: u64,
    /// Most calls the target saw in any 60 seconds, and what it allows.
    pub busiest_minute: u64,
    pub limit_per_minute: u32,
}

impl Report {
    pub async fn collect(
        context: &Context,
        stage: &Stage,
        args: &DemoArgs,
        runs: &[Run],
        comparison: Comparison,
        duration: Duration,
    ) -> Result<Self> {
        let sum = |field: fn(&Run) -> u64| runs.iter().map(field).sum();
        let mut targets = BTreeMap::new();
        if let Some(organization) = context.catalogue.organization(ORGANIZATION) {
            for summary in context.backends.tasks.target_summary(organization).await? {
                let standin = match summary.connection.as_str() {
                    ONE => &stage.one,
                    LESSEN360 => &stage.lessen360,
                    _ => continue,
                };
                let stats = stage.stats(standin).await?;
                let calls = stats
                    .get("calls")
                    .and_then(Value::as_u64)
                    .unwrap_or(summary.calls);
                targets.insert(
                    summary.connection.clone(),
                    TargetReport {
                        created: summary.created,
                        updated: summary.updated,
                        linked: summary.linked,
                        skipped: summary.skipped,
                        calls,
                        calls_saved: summary.wanted.saturating_sub(calls),
                        retries: summary.retries,
                        dead: summary.dead,
                        busiest_minute: stats
                            .get("max_calls_per_minute")
                            .and_then(Value::as_u64)
                            .unwrap_or(0),
                        limit_per_minute: args.target_limit,
                    },
                );
            }
        }
        Ok(Self {
            seed: args.seed,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            read: sum(|run| run.counts.read),
            stored: sum(|run| run.counts.stored),
            rejected: sum(|run| run.counts.rejected),
            rejected_reasons: rejected_reasons(context).await?,
            skipped: sum(|run| run.counts.skipped),
            created: sum(|run| run.counts.created),
            updated: sum(|run| run.counts.updated),
            unchanged: sum(|run| run.counts.unchanged),
            source_calls: sum(|run| run.counts.calls),
            targets,
            compared: comparison.compared,
            mismatches: comparison.mismatches.len() as u64,
            mismatch_details: comparison.mismatches.into_iter().take(SHOWN).collect(),
        })
    }

    pub fn print(&self, format: OutputFormat) -> Result<()> {
        match format {
            OutputFormat::Json => output::json(self),
            OutputFormat::Table => {
                self.print_table();
                Ok(())
            }
        }
    }

    fn print_table(&self) {
        out!("");
        output::table(
            &[
                "SOURCE",
                "READ",
                "STORED",
                "REJECTED",
                "SKIPPED",
                "CREATED",
                "UPDATED",
                "UNCHANGED",
                "CALLS",
            ],
            &[[
                "yardi".to_owned(),
                self.read.to_string(),
                self.stored.to_string(),
                self.rejected.to_string(),
                self.skipped.to_string(),
                self.created.to_string(),
                self.updated.to_string(),
                self.unchanged.to_string(),
                self.source_calls.to_string(),
            ]
            .to_vec()],
        );
        for (reason, count) in &self.rejected_reasons {
            out!("  rejected {count}: {reason}");
        }
        out!("");
        let rows: Vec<_> = self
            .targets
            .iter()
            .map(|(name, target)| {
                let mut row = vec![name.clone()];
                row.extend(
                    [
                        target.created,
                        target.updated,
                        target.linked,
                        target.skipped,
                        target.calls,
                        target.calls_saved,
                        target.retries,
                        target.dead,
                    ]
                    .map(|number| number.to_string()),
                );
                row
            })
            .collect();
        output::table(
            &[
                "TARGET",
                "CREATED",
                "UPDATED",
                "LINKED",
                "SKIPPED",
                "API CALLS",
                "CALLS SAVED",
                "RETRIES",
                "DEAD LETTERS",
            ],
            &rows,
        );
        out!("");
        for mismatch in &self.mismatch_details {
            out!(
                "  {} {} {}: {}",
                mismatch.place,
                mismatch.entity,
                mismatch.id,
                mismatch.problem
            );
        }
        out!(
            "{} records compared, {} mismatches, {:.1} s",
            self.compared,
            self.mismatches,
            Duration::from_millis(self.duration_ms).as_secs_f64()
        );
    }
}

/// Why raw records were rejected, by error code and text, from the review list.
async fn rejected_reasons(context: &Context) -> Result<BTreeMap<String, u64>> {
    let mut reasons = BTreeMap::new();
    let mut query = RawRecordQuery {
        organization_id: context.catalogue.organization(ORGANIZATION),
        inbound: Some(InboundState::Failed),
        limit: 1_000,
        ..RawRecordQuery::default()
    };
    loop {
        let page = context.backends.raw.records(&query).await?;
        for record in &page.records {
            let reason = record.errors.last().map_or_else(
                || "unknown".to_owned(),
                |error| format!("{} ({}): {}", record.entity_type, error.code, error.error),
            );
            *reasons.entry(reason).or_insert(0) += 1;
        }
        query.after = page.next;
        if query.after.is_none() {
            return Ok(reasons);
        }
    }
}
