//! Finding the slices of a stream.

use std::collections::HashSet;

use futures::{FutureExt as _, future::BoxFuture};
use minijinja::value::Value as Jinja;
use serde_json::Map;
use sluice_core::{Error, Result, fingerprint, run::RunKind};

use super::{
    Source,
    api::SliceRequest,
    partition::{MAX_PARTITIONS, Partition, Router, product, slice_value, too_many},
    read,
    slice::{Progress, Slice},
    stream::Stream,
    template::{Scope, functions},
    time,
};

impl Source {
    /// The slices a request asks for, in the order of the partitions.
    pub(super) async fn plan(&self, stream: &Stream, request: &SliceRequest) -> Result<Vec<Slice>> {
        if request.kind == RunKind::Reprocess {
            return Err(Error::internal(
                "reprocess_reads_nothing",
                "a reprocessing run reads stored records, not the source",
            ));
        }
        let now = time::utc(request.now);
        let scope = self.plan_scope(now);
        let partitions = self.partitions(&stream.router, now).await?;
        let mut seen = HashSet::new();
        let mut slices = Vec::new();
        for partition in partitions {
            let mut slice = Slice {
                partition: partition.values,
                extra: partition.extra,
                cursor: None,
                record: None,
            };
            let key = slice.partition_key();
            if !seen.insert(key.clone()) || !self.may_hold(stream, &slice, request, &scope)? {
                continue;
            }
            if let Some(cursor) = &stream.cursor {
                let state = request
                    .states
                    .iter()
                    .find(|(partition, _)| *partition == key)
                    .map(|(_, state)| state)
                    .filter(|_| request.kind == RunKind::Incremental);
                let since = request.since.map(time::utc);
                match cursor.range(&scope, state, since, now)? {
                    Some(range) => slice.cursor = Some(range),
                    None => continue,
                }
            }
            if request.kind == RunKind::Single {
                slice.record.clone_from(&request.record);
            }
            slices.push(slice);
        }
        Ok(slices)
    }

    fn plan_scope(&self, now: time::Moment) -> Scope<'_> {
        Scope::new(&self.templates, &self.config).with(functions::NOW, functions::now_value(now))
    }

    /// Whether the record a single run wants can be in a slice.
    fn may_hold(
        &self,
        stream: &Stream,
        slice: &Slice,
        request: &SliceRequest,
        scope: &Scope<'_>,
    ) -> Result<bool> {
        let (RunKind::Single, Some(record), Some(condition)) =
            (request.kind, &request.record, &stream.single.slice)
        else {
            return Ok(true);
        };
        condition.truth(
            &scope
                .clone()
                .with("record_id", Jinja::from(record.as_str()))
                .with("stream_slice", slice_value(&slice.part(), &Map::new())),
        )
    }

    /// The partitions of a router; parents are read for them.
    fn partitions<'a>(
        &'a self,
        router: &'a Router,
        now: time::Moment,
    ) -> BoxFuture<'a, Result<Vec<Partition>>> {
        async move {
            match router {
                Router::None => Ok(vec![Partition::default()]),
                Router::List(list) => list.partitions(&self.plan_scope(now)),
                Router::Product(routers) => {
                    let mut lists = Vec::with_capacity(routers.len());
                    for router in routers {
                        lists.push(self.partitions(router, now).await?);
                    }
                    product(lists)
                }
                Router::Substream(parents) => {
                    let mut all: Vec<Partition> = Vec::new();
                    let mut seen = HashSet::new();
                    for parent in parents {
                        let request = SliceRequest {
                            stream: parent.stream.name.clone(),
                            kind: RunKind::Full,
                            states: Vec::new(),
                            since: None,
                            record: None,
                            now: now.to_utc(),
                        };
                        for slice in self.plan(&parent.stream, &request).await? {
                            let mut progress = Progress::default();
                            while let Some((page, next)) =
                                self.page(&parent.stream, &slice, &progress).await?
                            {
                                let page = read::whole(page)?;
                                for record in &page.records {
                                    let scope = self.plan_scope(now);
                                    let Some(partition) =
                                        parent.partition(record, &slice.partition, &scope)?
                                    else {
                                        continue;
                                    };
                                    let key = fingerprint::canonical_json(
                                        &partition.values.clone().into(),
                                    );
                                    if seen.insert(key) {
                                        all.push(partition);
                                    }
                                    if all.len() > MAX_PARTITIONS {
                                        return Err(too_many());
                                    }
                                }
                                progress = next;
                            }
                        }
                    }
                    Ok(all)
                }
            }
        }
        .boxed()
    }
}
