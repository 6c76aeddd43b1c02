//! Reading: one request, its retries, its judgement, its records.

use bytes::Bytes;
use chrono::Utc;
use minijinja::value::Value as Jinja;
use serde_json::{Map, Value};
use sluice_core::{Error, Result};

use super::{
    Source,
    api::Page,
    cursor::Window,
    decode::{Decoded, Place},
    exchange::{Call, Fetched},
    extract, headers,
    paginate::{Position, Seen},
    partition::slice_value,
    record::{Form, Record},
    slice::{Progress, Slice},
    stream::Stream,
    template::{Scope, json},
};
use crate::http::{HeaderMap, Response, StatusCode, header::CONTENT_TYPE};

/// A page that was asked for.
struct Asked<'a> {
    window: Option<Window>,
    position: Position,
    scope: Scope<'a>,
    fetched: Fetched,
}

/// A page and what came of it.
pub(super) struct Taken {
    /// Without its records.
    page: Page,
    pub records: Vec<Record>,
    pub next: Progress,
}

impl Taken {
    /// For a caller that cannot use a page with an error.
    pub fn whole(self) -> Result<Self> {
        match self.page.error {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    pub fn into_page(self) -> (Page, Progress) {
        let records = self.records.into_iter().map(Record::into_value);
        let page = Page {
            records: records.collect(),
            ..self.page
        };
        (page, self.next)
    }
}

impl Source {
    /// What templates of a request see.
    pub(super) fn slice_scope<'a>(
        &'a self,
        slice: &'a Slice,
        interval: &Map<String, Value>,
    ) -> Scope<'a> {
        let value = slice_value(&slice.part(), interval);
        let mut scope = Scope::new(&self.templates, &self.config);
        for (name, value) in &slice.extra {
            scope = scope.with(name, json::of(value));
        }
        for name in ["stream_slice", "stream_partition", "stream_interval"] {
            scope = scope.with(name, value.clone());
        }
        scope
    }

    /// Reads the page a progress points at. `None` when nothing is left.
    pub(super) async fn page(
        &self,
        stream: &Stream,
        slice: &Slice,
        progress: &Progress,
        form: Form,
    ) -> Result<Option<Taken>> {
        let mut progress = progress.clone();
        let mut calls = 0;
        while !progress.done {
            let asked = self.ask(stream, slice, &progress, form).await?;
            calls += asked.fetched.calls;
            if !asked.fetched.restart {
                return self.taken(stream, slice, &progress, asked, calls).map(Some);
            }
            // Nothing in such an answer counts.
            let cursor = stream.cursor.as_ref();
            progress = stream
                .restart
                .again(&progress, cursor, asked.window.as_ref())?;
        }
        Ok(None)
    }

    /// Asks for the page a progress points at.
    async fn ask<'a>(
        &'a self,
        stream: &Stream,
        slice: &'a Slice,
        progress: &Progress,
        form: Form,
    ) -> Result<Asked<'a>> {
        let window = self.window(stream, slice, progress)?;
        // Begun again, it may start later than it did.
        let asked = window.map(|window| Window {
            start: progress.runs.from.unwrap_or(window.start),
            ..window
        });
        let interval = match (&stream.cursor, &asked) {
            (Some(cursor), Some(window)) => cursor.interval(window),
            _ => Map::new(),
        };
        let position = progress
            .page
            .clone()
            .unwrap_or_else(|| stream.paginator.start());
        let token = if position.token.is_null() {
            Jinja::from(())
        } else {
            Jinja::from_pairs([("next_page_token", json::of(&position.token))])
        };
        let scope = self
            .slice_scope(slice, &interval)
            .with("next_page_token", token);
        let records_at = stream.selector.extractor.segments(&scope)?;
        let records = extract::is_plain(&records_at).then_some(Place {
            path: &records_at,
            as_text: form == Form::Rows && !stream.selector.takes_apart(),
        });
        let fetched = match slice.first_page(progress) {
            Some(page) => given(stream, page, records),
            None => {
                let window = asked.as_ref();
                self.fetch(stream, slice, window, &position, &scope, records)
                    .await?
            }
        };
        Ok(Asked {
            window,
            position,
            scope,
            fetched,
        })
    }

    /// The page that an answer is.
    fn taken(
        &self,
        stream: &Stream,
        slice: &Slice,
        progress: &Progress,
        asked: Asked<'_>,
        calls: u32,
    ) -> Result<Taken> {
        let Asked {
            window,
            position,
            scope,
            fetched,
        } = asked;
        let content_type = fetched
            .response
            .header(CONTENT_TYPE.as_str())
            .map(str::to_owned);
        // An ignored error answer holds no records, now or when it is extracted again.
        let body = if fetched.response.status.as_u16() >= 400 {
            Bytes::new()
        } else {
            fetched.response.body.clone()
        };
        let mut page = Page {
            body,
            content_type,
            received_at: Utc::now(),
            records: Vec::new(),
            progress: Value::Null,
            state: None,
            calls,
            error: None,
        };
        let step = fetched.decoded.and_then(|decoded| {
            let fetched = &fetched.response;
            self.step(
                stream, slice, progress, &position, window, &scope, fetched, decoded, &mut page,
            )
        });
        match step {
            Ok((records, next)) => {
                page.progress = next.to_json()?;
                Ok(Taken {
                    page,
                    records,
                    next,
                })
            }
            Err(error) => {
                // The bytes go to the caller all the same (promise I1); the slice ends here.
                page.state = None;
                page.progress = progress.to_json()?;
                page.error = Some(self.told(error));
                let next = Progress {
                    done: true,
                    ..progress.clone()
                };
                Ok(Taken {
                    page,
                    records: Vec::new(),
                    next,
                })
            }
        }
    }

    fn window(
        &self,
        stream: &Stream,
        slice: &Slice,
        progress: &Progress,
    ) -> Result<Option<Window>> {
        let (Some(cursor), Some(range)) = (&stream.cursor, &slice.cursor) else {
            return Ok(None);
        };
        let scope = Scope::new(&self.templates, &self.config);
        let from = progress.window.unwrap_or(range.start);
        cursor.window(range, from, &scope).map(Some)
    }

    /// Takes the page's records and finds out where reading goes on.
    #[expect(
        clippy::too_many_arguments,
        reason = "everything a page's meaning depends on, used in this one place"
    )]
    fn step(
        &self,
        stream: &Stream,
        slice: &Slice,
        progress: &Progress,
        position: &Position,
        window: Option<Window>,
        scope: &Scope<'_>,
        response: &Response,
        decoded: Decoded,
        page: &mut Page,
    ) -> Result<(Vec<Record>, Progress)> {
        let answer = if stream.paginator.uses_response() {
            decoded.for_templates()
        } else {
            Jinja::from(())
        };
        let extracted = self.extract(stream, slice, decoded, scope)?;
        let mut next = Progress {
            window: window.map(|window| window.start),
            highest: progress.highest,
            ..Progress::default()
        };
        if let (Some(cursor), Some(range)) = (&stream.cursor, &slice.cursor) {
            let highest = cursor.highest(&extracted.records, range, scope)?;
            next.highest = next.highest.max(highest);
        }
        let mut runs = progress.runs.clone();
        if stream.restart.counts(&mut runs, extracted.records.len()) {
            let so_far = Progress {
                window: progress.window,
                highest: next.highest,
                runs,
                ..Progress::default()
            };
            let cursor = stream.cursor.as_ref();
            let next = stream.restart.again(&so_far, cursor, window.as_ref())?;
            return Ok((extracted.records, next));
        }
        let seen = Seen {
            response: answer,
            headers: headers::with_links(&response.headers),
            extracted: extracted.count,
            emitted: extracted.records.len(),
            last_record: extracted.records.last(),
            records_hash: extracted.hash,
        };
        let more = if response.status.as_u16() >= 400 || extracted.feed_over {
            None
        } else {
            stream.paginator.next(position, &seen, scope)?
        };
        match more {
            Some(position) => {
                next.page = Some(position);
                next.runs = runs;
            }
            None => {
                let following = window.and_then(|window| window.next);
                next.window = following;
                next.done = following.is_none();
                // A single record's run drops the others, so it must not move the state.
                if let (Some(cursor), Some(range), None) =
                    (&stream.cursor, &slice.cursor, &slice.record)
                {
                    page.state = cursor
                        .state(range, next.highest, scope)?
                        .map(|state| (slice.partition_key(), state));
                }
            }
        }
        Ok((extracted.records, next))
    }

    /// Asks for the page at a position.
    async fn fetch(
        &self,
        stream: &Stream,
        slice: &Slice,
        window: Option<&Window>,
        position: &Position,
        scope: &Scope<'_>,
        records: Option<Place<'_>>,
    ) -> Result<Fetched> {
        let (mut injections, path) = stream.paginator.injections(position, scope)?;
        if position.token.is_null() || !stream.drop_slice_options_on_pages {
            injections.extend(stream.router.injections(&slice.part(), scope)?);
            if let (Some(cursor), Some(window)) = (&stream.cursor, window) {
                injections.extend(cursor.injections(window, scope)?);
            }
        }
        let call = Call {
            requester: &stream.requester,
            decoder: &stream.decoder,
            records,
            injections,
            path,
            cached: stream.cached,
        };
        self.exchange(&call, scope).await
    }
}

/// A page that needs no call: it came with its parent.
fn given(stream: &Stream, page: &str, records: Option<Place<'_>>) -> Fetched {
    Fetched {
        decoded: stream.decoder.decode(page.as_bytes(), None, records),
        response: Response {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(page.as_bytes()),
        },
        calls: 0,
        restart: false,
    }
}

/// The refusal of a stream the manifest does not have.
pub(super) fn unknown_stream(name: &str) -> Error {
    Error::config(
        "stream_unknown",
        format!("the connector has no stream `{name}`"),
    )
}
