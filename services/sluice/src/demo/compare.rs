//! Fetches what every place holds and compares it.

use sluice_core::{Error, Result};
use sluice_standin::{
    Handle,
    compare::{self, Comparison, LESSEN360_KINDS, Master, ONE_KINDS, Places, Records, YARDI_KINDS},
};
use sluice_store::master::MasterQuery;

use crate::{
    context::Context,
    demo::setup::{ORGANIZATION, SOURCE, Stage},
};

/// Compares source, master data and both targets, record by record.
pub async fn compare(context: &Context, stage: &Stage) -> Result<Comparison> {
    let places = (
        records(stage, &stage.yardi, YARDI_KINDS).await?,
        records(stage, &stage.one, ONE_KINDS).await?,
        records(stage, &stage.lessen360, LESSEN360_KINDS).await?,
        master(context).await?,
    );
    // Seconds of work for large demos, which would hold up the services.
    let compared = tokio::task::spawn_blocking(move || {
        let (yardi, one, lessen360, master) = &places;
        compare::compare(&Places {
            source: SOURCE,
            yardi,
            one,
            lessen360,
            master,
        })
    });
    compared.await.map_err(|error| {
        Error::internal("demo_failed", "the comparison ended early").caused_by(error)
    })
}

async fn records(stage: &Stage, standin: &Handle, kinds: &[&str]) -> Result<Records> {
    let mut records = Records::new();
    for kind in kinds {
        records.insert((*kind).to_owned(), stage.records(standin, kind).await?);
    }
    Ok(records)
}

async fn master(context: &Context) -> Result<Vec<Master>> {
    let mut all = Vec::new();
    let mut query = MasterQuery {
        organization_id: context.catalogue.organization(ORGANIZATION),
        limit: 1_000,
        ..MasterQuery::default()
    };
    loop {
        let page = context.backends.master.records(&query).await?;
        query.after = page.last().map(|record| record.id);
        let last = page.len() < query.limit;
        all.extend(page.into_iter().map(|record| Master {
            entity_type: record.entity_type.as_str().to_owned(),
            source_id: record.source_id,
            deleted: record.deleted,
            data: record.data,
        }));
        if last {
            return Ok(all);
        }
    }
}
