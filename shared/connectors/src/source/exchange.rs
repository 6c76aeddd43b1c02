//! One call and what becomes of it: credentials, budget, redirects, judgement, tries.

use chrono::Utc;
use minijinja::value::Value as Jinja;
use sluice_core::{Error, ErrorClass, Result};
use url::Url;

use super::{
    Source, budget,
    decode::{Decoded, Decoder, Place},
    errors::{Action, Answer},
    request::{Injection, Requester},
    template::Scope,
};
use crate::http::{
    Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION},
};

/// Redirects followed for one call.
const MAX_REDIRECTS: usize = 30;

/// A call to be made.
pub struct Call<'a> {
    pub requester: &'a Requester,
    pub decoder: &'a Decoder,
    /// Where the records stand, when the decoder can take them out while reading.
    pub records: Option<Place<'a>>,
    /// What others put into the request.
    pub injections: Vec<Injection>,
    /// A paginator's URL or path, which replaces the requester's.
    pub path: Option<String>,
    /// Whether an earlier answer to the same request serves as well.
    pub cached: bool,
}

/// An answer judged to be usable.
pub struct Fetched {
    pub response: Response,
    pub decoded: Result<Decoded>,
    /// Calls made, tries included.
    pub calls: u32,
    /// The manifest wants the pages to be read from the first one again.
    pub restart: bool,
}

/// What one try came to.
enum Tried {
    Done(Response, Result<Decoded>),
    Restart(Response, Result<Decoded>),
    Failed(Error, StatusCode),
    /// The error if no try is left, and the answer, which may say how long to wait.
    Again(Error, Option<Response>),
    /// A new token may help.
    Renew(Error),
}

impl Source {
    /// Makes the call, judges the answer, and tries again as the manifest says.
    pub(super) async fn exchange(&self, call: &Call<'_>, scope: &Scope<'_>) -> Result<Fetched> {
        let errors = &call.requester.errors;
        let auth = &call.requester.auth;
        let max_retries = errors.max_retries(scope)?;
        let mut calls = 0;
        let mut retries = 0;
        let mut renewed = false;
        loop {
            let added = auth.prepare(self).await?;
            let request = call.requester.request(
                scope,
                added.injections,
                call.injections.clone(),
                call.path.as_deref(),
            )?;
            let tried = self.attempt(call, request, scope, &mut calls).await?;
            let restart = matches!(tried, Tried::Restart(..));
            let (error, renew) = match tried {
                Tried::Done(response, decoded) | Tried::Restart(response, decoded) => {
                    return Ok(Fetched {
                        response,
                        decoded,
                        calls,
                        restart,
                    });
                }
                Tried::Again(error, answer) => {
                    retries += 1;
                    self.wait(call, error, answer.as_ref(), scope, retries, max_retries)
                        .await?;
                    continue;
                }
                Tried::Renew(error) => (error, true),
                Tried::Failed(error, status) => {
                    let refused = status == StatusCode::UNAUTHORIZED;
                    (error, refused && auth.renews_when_refused(self.settings()))
                }
            };
            // A refused token is renewed once: a second refusal is about something else.
            match added.ticket {
                Some(ticket) if renew && !renewed => self.tokens().give_up(ticket).await,
                _ => return Err(error),
            }
            renewed = true;
        }
    }

    /// One call, with the redirects it leads to.
    async fn attempt(
        &self,
        call: &Call<'_>,
        request: Request,
        scope: &Scope<'_>,
        calls: &mut u32,
    ) -> Result<Tried> {
        let mut address = request.url.clone();
        address.set_query(None);
        let response = match self.answer(call, request, calls).await {
            Ok(response) => response,
            Err(error) => {
                return match error.class() {
                    ErrorClass::Network | ErrorClass::Timeout => Ok(Tried::Again(error, None)),
                    _ => Err(error),
                };
            }
        };
        let decoded = decode(call, &response);
        let lenient;
        let view = match &decoded {
            Ok(decoded) => decoded,
            Err(_) => {
                lenient = call.decoder.decode_error(&[], None);
                &lenient
            }
        };
        let judged = scope
            .clone()
            .with("request_url", Jinja::from(address.as_str()));
        let answer = Answer {
            status: response.status,
            headers: &response.headers,
            decoded: view,
        };
        let action = call.requester.errors.judge(&answer, &judged)?;
        let status = response.status.as_u16();
        Ok(match action {
            Action::Success | Action::Ignore => Tried::Done(response, decoded),
            Action::Restart => Tried::Restart(response, decoded),
            Action::Fail(error) => Tried::Failed(error.http_status(status), response.status),
            Action::Renew(error) => Tried::Renew(error.http_status(status)),
            Action::Retry(error) | Action::RateLimited(error) => {
                Tried::Again(error.http_status(status), Some(response))
            }
        })
    }

    async fn answer(
        &self,
        call: &Call<'_>,
        mut request: Request,
        calls: &mut u32,
    ) -> Result<Response> {
        let cache = self.cache().filter(|_| call.cached);
        if let Some(known) = cache.and_then(|cache| cache.get(&request)) {
            return Ok(known);
        }
        let asked = request.clone();
        for _ in 0..=MAX_REDIRECTS {
            self.pace(&request).await?;
            *calls += 1;
            let response = self.client().send(request.clone()).await?;
            if let Some(budget) = self.budget() {
                budget.learn(&request, &response, &self.scope())?;
            }
            match redirected(request, &response)? {
                Some(next) => request = next,
                None => {
                    if let Some(cache) = cache {
                        cache.put(&asked, &response);
                    }
                    return Ok(response);
                }
            }
        }
        Err(Error::new(
            ErrorClass::TargetError,
            "redirects_too_many",
            format!("the system redirected more than {MAX_REDIRECTS} times"),
        ))
    }

    /// Waits for the manifest's own budget.
    async fn pace(&self, request: &Request) -> Result<()> {
        let Some(budget) = self.budget() else {
            return Ok(());
        };
        while let Some(wait) = budget.take(request, &self.scope())? {
            if wait > self.patience().longest {
                return Err(budget::exhausted(wait));
            }
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// Waits before the n-th retry, or ends with the error.
    async fn wait(
        &self,
        call: &Call<'_>,
        error: Error,
        answer: Option<&Response>,
        scope: &Scope<'_>,
        retry: u32,
        max_retries: u32,
    ) -> Result<()> {
        let headers = answer.map(|answer| &answer.headers);
        let wait = call
            .requester
            .errors
            .wait(retry, headers, scope, Utc::now())?;
        if retry > max_retries {
            let asked = headers.and_then(|headers| crate::http::retry_after(headers, Utc::now()));
            return Err(match asked {
                Some(asked) => error.retry_after(asked),
                None => error,
            });
        }
        if wait > self.patience().longest {
            return Err(error.retry_after(wait));
        }
        self.patience().sleep(wait).await;
        Ok(())
    }
}

/// Decodes an answer; one with an error status only as far as it can be.
fn decode(call: &Call<'_>, response: &Response) -> Result<Decoded> {
    let content_type = response.header(CONTENT_TYPE.as_str());
    if response.status.as_u16() >= 400 {
        let mut decoded = call.decoder.decode_error(&response.body, content_type);
        decoded.streamed = Some(Vec::new());
        return Ok(decoded);
    }
    call.decoder
        .decode(&response.body, content_type, call.records)
}

/// The request a redirect leads to, as browsers and the reference runtime do it: 303, and a POST
/// answered 301 or 302, become a GET; credentials in `Authorization` stay with their host.
fn redirected(mut request: Request, response: &Response) -> Result<Option<Request>> {
    let status = response.status.as_u16();
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let Some(location) = response.header(LOCATION.as_str()) else {
        return Ok(None);
    };
    let next: Url = request.url.join(location).map_err(|_| {
        Error::new(
            ErrorClass::TargetError,
            "redirect_invalid",
            "the system redirected to something that is no URL",
        )
    })?;
    let becomes_get = status == 303 || (request.method == Method::POST && status < 303);
    if becomes_get {
        request.method = Method::GET;
        request.body = bytes::Bytes::new();
        request.headers.remove(CONTENT_TYPE);
        request.headers.remove(CONTENT_LENGTH);
    }
    if next.origin() != request.url.origin() {
        request.headers.remove(AUTHORIZATION);
    }
    request.url = next;
    Ok(Some(request))
}
