//! Finding the slices of a stream.

use std::collections::HashSet;

use futures::{FutureExt as _, future::BoxFuture};
use minijinja::value::Value as Jinja;
use serde_json::{Map, Value};
use sluice_core::{Error, Result, fingerprint, run::RunKind};

use super::{
    Source,
    api::SliceRequest,
    cursor::Origin,
    delegate::complete_without_cursor,
    partition::{MAX_PARTITIONS, Parent, Partition, Router, product, slice_value, too_many},
    record::Form,
    slice::{Progress, Slice},
    stream::Stream,
    template::{Scope, functions},
    time::{self, Moment},
    track::{Known, Tracker},
};

/// What to find slices for.
pub(super) struct Wanted<'a> {
    pub kind: RunKind,
    pub known: &'a Known,
    pub since: Option<Moment>,
    pub record: Option<&'a str>,
    pub now: Moment,
    /// Parents that the manifest marks so are read from their own state on. Only a caller that
    /// keeps the parents' states may ask for this.
    pub incremental_parents: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Planned {
    pub slices: Vec<Slice>,
    /// Every partition, also those in which nothing is left to be read.
    pub partitions: Vec<Map<String, Value>>,
    /// New states of parents that were read from their own state on.
    pub parents: Map<String, Value>,
}

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
        let states: &[(String, Value)] = match request.kind {
            RunKind::Incremental => &request.states,
            _ => &[],
        };
        let states = stream.still_good(states, &self.scope(), now)?;
        let known = Known::of_partitions(states);
        let stream = if states.is_empty() {
            stream.without_state()
        } else {
            stream
        };
        let wanted = Wanted {
            kind: request.kind,
            known: &known,
            since: request.since.map(time::utc),
            record: request.record.as_deref(),
            now,
            incremental_parents: false,
        };
        Ok(self.find(stream, &wanted).await?.slices)
    }

    /// The same with all that is known about the stream.
    pub(super) async fn find(&self, stream: &Stream, wanted: &Wanted<'_>) -> Result<Planned> {
        let scope = self.plan_scope(wanted.now);
        let mut planned = Planned::default();
        let partitions = self
            .partitions(&stream.router, wanted, &mut planned.parents, false)
            .await?;
        let mut seen = HashSet::new();
        for partition in partitions {
            let mut slice = Slice {
                partition: partition.values,
                extra: partition.extra,
                // With a state only what is new is wanted, which the system knows.
                page: partition.page.filter(|_| wanted.known.is_empty()),
                cursor: None,
                first: stream.is_first,
                record: None,
            };
            let key = slice.partition_key();
            // Without a state nothing tells that a repeated part was read before.
            let repeated = !seen.insert(key.clone());
            if repeated || !self.may_hold(stream, &slice, wanted, &scope)? {
                continue;
            }
            planned.partitions.push(slice.partition.clone());
            if let Some(cursor) = &stream.cursor {
                let (state, earlier) = wanted.known.state(&key);
                let from = Origin {
                    state,
                    earlier,
                    since: wanted.since,
                    now: wanted.now,
                };
                match cursor.range(&scope, from)? {
                    Some(range) => slice.cursor = Some(range),
                    None => continue,
                }
            }
            if wanted.kind == RunKind::Single {
                slice.record = wanted.record.map(str::to_owned);
            }
            planned.slices.push(slice);
        }
        Ok(planned)
    }

    pub(super) fn plan_scope(&self, now: Moment) -> Scope<'_> {
        self.scope().with(functions::NOW, functions::now_value(now))
    }

    /// Whether the record a single run wants can be in a slice.
    fn may_hold(
        &self,
        stream: &Stream,
        slice: &Slice,
        wanted: &Wanted<'_>,
        scope: &Scope<'_>,
    ) -> Result<bool> {
        let (RunKind::Single, Some(record), Some(condition)) =
            (wanted.kind, wanted.record, &stream.single.slice)
        else {
            return Ok(true);
        };
        condition.truth(
            &scope
                .clone()
                .with("record_id", Jinja::from(record))
                .with("stream_slice", slice_value(&slice.part(), &Map::new())),
        )
    }

    /// The partitions of a router; parents are read for them. Of those that repeat the first one
    /// counts, unless all are wanted.
    fn partitions<'a>(
        &'a self,
        router: &'a Router,
        wanted: &'a Wanted<'_>,
        parents: &'a mut Map<String, Value>,
        repeated: bool,
    ) -> BoxFuture<'a, Result<Vec<Partition>>> {
        async move {
            match router {
                Router::None => Ok(vec![Partition::default()]),
                Router::List(list) => list.partitions(&self.plan_scope(wanted.now)),
                Router::Product(routers) => {
                    let mut lists = Vec::with_capacity(routers.len());
                    for router in routers {
                        lists.push(self.partitions(router, wanted, parents, repeated).await?);
                    }
                    product(lists)
                }
                Router::Substream(configs) => {
                    let mut found = Found {
                        repeated,
                        ..Found::default()
                    };
                    for parent in configs {
                        self.read_parent(parent, wanted, parents, &mut found)
                            .await?;
                    }
                    Ok(found.partitions)
                }
                Router::Group(group) => {
                    let repeated = group.keeps_repeated();
                    let inner = self.partitions(&group.inner, wanted, parents, repeated);
                    group.groups(inner.await?)
                }
            }
        }
        .boxed()
    }

    /// Reads a parent to its end and takes a partition from each of its records.
    async fn read_parent(
        &self,
        parent: &Parent,
        wanted: &Wanted<'_>,
        parents: &mut Map<String, Value>,
        found: &mut Found,
    ) -> Result<()> {
        let scope = self.plan_scope(wanted.now);
        let incremental = wanted.incremental_parents && parent.incremental;
        let known = if incremental {
            wanted.known.of_parent(&parent.stream, &scope)?
        } else {
            Known::default()
        };
        let stream = if known.is_empty() {
            parent.stream.without_state()
        } else {
            &parent.stream
        };
        let inner = Wanted {
            kind: RunKind::Full,
            known: &known,
            since: None,
            record: None,
            now: wanted.now,
            incremental_parents: wanted.incremental_parents,
        };
        let planned = self.find(stream, &inner).await?;
        let mut tracker = Tracker::new(stream, &known, &scope)?.filter(|_| incremental);
        if let Some(tracker) = &mut tracker {
            planned
                .partitions
                .iter()
                .for_each(|partition| tracker.plan(partition));
        }
        for slice in &planned.slices {
            let key = slice.partition_key();
            let mut progress = Progress::default();
            while let Some(taken) = self.page(stream, slice, &progress, Form::Rows).await? {
                let taken = taken.whole()?;
                for record in &taken.records {
                    if let Some(partition) = parent.partition(record, &slice.partition, &scope)? {
                        found.add(partition)?;
                    }
                }
                if let Some(tracker) = &mut tracker {
                    tracker.close(&key, taken.next.highest);
                }
                progress = taken.next;
            }
        }
        if incremental {
            let state = match tracker {
                Some(mut tracker) => {
                    tracker.finish(true, planned.parents);
                    tracker.state()
                }
                None => complete_without_cursor(),
            };
            parents.insert(stream.name.clone(), state);
        }
        Ok(())
    }
}

/// Bytes of first pages that come with parents and are kept; the others are asked for.
const MAX_PAGES: usize = 16 << 20;

/// Partitions taken from parents.
#[derive(Default)]
struct Found {
    partitions: Vec<Partition>,
    seen: HashSet<String>,
    /// Bytes of their first pages.
    pages: usize,
    /// Those that were seen before are wanted too.
    repeated: bool,
}

impl Found {
    fn add(&mut self, mut partition: Partition) -> Result<()> {
        self.pages += partition.page.as_ref().map_or(0, String::len);
        if self.pages > MAX_PAGES {
            partition.page = None;
        }
        let key = fingerprint::canonical_json(&partition.values.clone().into());
        if self.seen.insert(key) || self.repeated {
            self.partitions.push(partition);
        }
        if self.partitions.len() > MAX_PARTITIONS {
            return Err(too_many());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// I4: what comes with the parents does not fill the memory.
    #[test]
    fn first_pages_are_kept_within_a_bound() {
        let mut found = Found::default();
        for id in 0..3 {
            let values = Map::from_iter([("id".to_owned(), json!(id))]);
            let page = Some("x".repeat(MAX_PAGES / 2));
            let partition = Partition {
                values,
                page,
                ..Partition::default()
            };
            found.add(partition).unwrap();
        }
        let kept = found.partitions.iter().map(|one| one.page.is_some());
        assert_eq!(kept.collect::<Vec<_>>(), [true, true, false]);
    }
}
