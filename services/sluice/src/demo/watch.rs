//! Watches a run until it has ended and nothing is on its way to a target any more.

use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sluice_core::{Error, OrganizationId, Result, RunId};
use sluice_store::run::Run;

use crate::context::Context;

const INTERVAL: Duration = Duration::from_millis(100);
/// Without any change for this long, waiting on would be waiting for ever.
const STALLED_AFTER: Duration = Duration::from_secs(60);

/// Returns the run once it is over and its pushes are settled, or once nothing has moved for a
/// minute: the comparison then says what is missing.
pub async fn until_quiet(
    context: &Context,
    organization: OrganizationId,
    id: RunId,
    bars: bool,
) -> Result<Run> {
    let progress = Bars::new(bars);
    let mut last = (String::new(), Instant::now());
    loop {
        let detail = context
            .backends
            .tasks
            .run(organization, id)
            .await?
            .ok_or_else(|| Error::internal("run_missing", format!("run {id} has gone")))?;
        let targets = context.backends.tasks.target_summary(organization).await?;
        let open: u64 = targets.iter().map(|target| target.open).sum();
        let sent: u64 = targets
            .iter()
            .map(|t| t.created + t.updated + t.deleted + t.linked + t.skipped + t.dead)
            .sum();
        let state = format!(
            "{} {:?} {open} {sent}",
            detail.run.state.as_str(),
            detail.run.counts
        );
        progress.show(&detail.run, open, sent);
        if detail.run.state.is_final() && open == 0 {
            progress.finish();
            return Ok(detail.run);
        }
        if state != last.0 {
            last = (state, Instant::now());
        } else if last.1.elapsed() > STALLED_AFTER {
            progress.finish();
            eprintln!(
                "nothing has moved for {} s: {open} pushes still open",
                STALLED_AFTER.as_secs()
            );
            return Ok(detail.run);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

struct Bars {
    read: ProgressBar,
    sent: ProgressBar,
}

impl Bars {
    fn new(visible: bool) -> Self {
        let target = if visible {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bars = MultiProgress::with_draw_target(target);
        let spinner = |text: &'static str| {
            let style = ProgressStyle::with_template(text)
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            bars.add(ProgressBar::new_spinner().with_style(style))
        };
        Self {
            read: spinner("sync-in   {pos:>9} records  {per_sec:>14}  {msg}"),
            sent: spinner("sync-out  {pos:>9} pushes   {per_sec:>14}  {msg}"),
        }
    }

    fn show(&self, run: &Run, open: u64, sent: u64) {
        self.read.set_position(run.counts.read);
        self.read
            .set_message(format!("{} run {}", run.kind.as_str(), run.state.as_str()));
        self.sent.set_position(sent);
        self.sent.set_message(format!("{open} on their way"));
    }

    fn finish(&self) {
        self.read.abandon();
        self.sent.abandon();
    }
}
