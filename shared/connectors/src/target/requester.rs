//! From a requester of the file to a request that can be sent.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::Value;
use sluice_core::{Error, Result};

use super::{
    auth::Authenticator,
    multipart::{self, Piece},
    outcome::ErrorRules,
    template::{JsonTemplate, Scope, Template, Unfilled, scalar_text},
};
use crate::http::Request;

/// A requester, checked and ready.
#[derive(Debug)]
pub(super) struct Requester {
    pub(super) method: Method,
    pub(super) url_base: Template,
    pub(super) path: Vec<Template>,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) parameters: Vec<(String, JsonTemplate)>,
    pub(super) body: Body,
    pub(super) authenticator: std::sync::Arc<Authenticator>,
    pub(super) rules: ErrorRules,
}

#[derive(Debug)]
pub(super) enum Body {
    None,
    Json(JsonTemplate),
    Multipart(Vec<Part>),
}

/// One part of a multipart form.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) filename: Option<Template>,
    pub(super) content_type: Template,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Json(JsonTemplate),
    Base64(Template),
}

impl Requester {
    /// The request for what is in scope, without authentication.
    ///
    /// # Errors
    /// `outgoing_field_missing` (Validation) when the body lacks what the file refers to, or a
    /// value does not fit its place.
    pub(super) fn build(&self, scope: &Scope<'_>) -> Result<Request> {
        let mut request = Request::new(self.method.clone(), self.url(scope)?);
        for (name, template) in &self.headers {
            let text = template.text(scope).map_err(unfilled)?;
            let value = HeaderValue::from_str(&text).map_err(|_| unfit(name.as_str()))?;
            request.headers.insert(name.clone(), value);
        }
        match &self.body {
            Body::None => {}
            Body::Json(template) => {
                let value = template.render(scope).map_err(unfilled)?;
                let bytes = serde_json::to_vec(&value.unwrap_or_default()).map_err(|error| {
                    Error::internal("outgoing_body_failed", "the body cannot be written as JSON")
                        .caused_by(error)
                })?;
                request.body = bytes.into();
                request
                    .headers
                    .entry(CONTENT_TYPE)
                    .or_insert(HeaderValue::from_static("application/json"));
            }
            Body::Multipart(parts) => {
                let pieces: Vec<_> = parts
                    .iter()
                    .map(|part| part.piece(scope))
                    .collect::<Result<_>>()?;
                let (content_type, bytes) = multipart::encode(&pieces)?;
                request.body = bytes;
                request.headers.insert(CONTENT_TYPE, content_type);
            }
        }
        Ok(request)
    }

    /// The address without a path.
    pub(super) fn base_url(&self, scope: &Scope<'_>) -> Result<Url> {
        parse_base(&self.url_base.text(scope).map_err(unfilled)?)
    }

    fn url(&self, scope: &Scope<'_>) -> Result<Url> {
        let mut url = self.base_url(scope)?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            for template in &self.path {
                let segment = template.text(scope).map_err(unfilled)?;
                // A URL has no way to carry these: they would name another resource.
                if matches!(segment.as_str(), "" | "." | "..") {
                    return Err(unfit("path"));
                }
                segments.push(&segment);
            }
        }
        for (name, template) in &self.parameters {
            match template.render(scope).map_err(unfilled)? {
                None => {}
                Some(Value::Array(values)) => {
                    for value in &values {
                        append(&mut url, name, value)?;
                    }
                }
                Some(value) => append(&mut url, name, &value)?,
            }
        }
        Ok(url)
    }
}

fn append(url: &mut Url, name: &str, value: &Value) -> Result<()> {
    let text = scalar_text(value).ok_or_else(|| unfit(name))?;
    url.query_pairs_mut().append_pair(name, &text);
    Ok(())
}

/// An absolute http or https URL; the error does not repeat it.
pub(super) fn parse_base(text: &str) -> Result<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none())
        .ok_or_else(|| {
            Error::config(
                "target_url_invalid",
                "the base URL is no absolute http or https URL without a query",
            )
        })
}

impl Part {
    fn piece(&self, scope: &Scope<'_>) -> Result<Piece> {
        let text = |template: &Template| template.text(scope).map_err(unfilled);
        let content = match &self.content {
            Content::Json(template) => {
                let value = template.render(scope).map_err(unfilled)?;
                Bytes::from(value.unwrap_or_default().to_string())
            }
            Content::Base64(template) => {
                let encoded = template.value(scope).map_err(unfilled)?;
                let encoded = encoded.as_ref().and_then(Value::as_str).unwrap_or_default();
                BASE64
                    .decode(encoded.trim())
                    .map_err(|_| unfit(&self.name))?
                    .into()
            }
        };
        Ok(Piece {
            name: self.name.clone(),
            filename: self.filename.as_ref().map(text).transpose()?,
            content_type: text(&self.content_type)?,
            content,
        })
    }
}

pub(super) fn unfilled(Unfilled(reference): Unfilled) -> Error {
    Error::validation(
        "outgoing_field_missing",
        format!("`{reference}` is needed for the request and has no usable value"),
    )
}

pub(super) fn unfit(place: &str) -> Error {
    Error::validation(
        "outgoing_field_unfit",
        format!("the value for `{place}` cannot be sent there"),
    )
}
