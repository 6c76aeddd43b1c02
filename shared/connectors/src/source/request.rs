//! Building requests: URL, parameters, headers, body, and what others inject into them.

use bytes::Bytes;
use serde_json::{Map, Value};
use sluice_core::{Error, Result};
use url::Url;

use super::{
    auth::Auth,
    errors::ErrorHandler,
    manifest::Component,
    template::{Mapping, Nested, Scope, Template, Templates, literal::Literal, python},
};
use crate::http::{HeaderName, HeaderValue, Method, Request, header::CONTENT_TYPE};

/// Where a paginator, slicer or authenticator puts a value.
#[derive(Debug, Clone)]
pub struct RequestOption {
    place: Place,
    path: Vec<Template>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Parameter,
    Header,
    BodyData,
    BodyJson,
}

impl RequestOption {
    pub fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        if component.kind() != "RequestOption" {
            return Err(component.unsupported());
        }
        let place = match component.text("inject_into") {
            Some("request_parameter") => Place::Parameter,
            Some("header") => Place::Header,
            Some("body_data") => Place::BodyData,
            Some("body_json") => Place::BodyJson,
            _ => return Err(component.invalid("inject_into", "is missing or unknown")),
        };
        let mut path = component.template_list("field_path", templates)?;
        if path.is_empty() {
            path = component.template_list("field_name", templates)?;
        }
        if path.is_empty() || (path.len() > 1 && place != Place::BodyJson) {
            return Err(component.invalid("field_name", "does not name one field"));
        }
        Ok(Self { place, path })
    }

    /// The value at its place.
    pub fn inject(&self, value: Value, scope: &Scope<'_>) -> Result<Injection> {
        Ok(Injection {
            place: self.place,
            path: self
                .path
                .iter()
                .map(|part| part.text(scope))
                .collect::<Result<_>>()?,
            value,
        })
    }
}

/// A value on its way into a request.
#[derive(Debug, Clone)]
pub struct Injection {
    pub place: Place,
    pub path: Vec<String>,
    pub value: Value,
}

#[derive(Debug)]
enum Body {
    None,
    Json(Nested),
    /// A form, or a text.
    Data(Mapping),
    Text(Template),
    /// GraphQL and wrapped JSON: a nested structure too.
    Graph(Nested),
}

/// `HttpRequester`.
#[derive(Debug)]
pub struct Requester {
    url: Option<Template>,
    base: Option<Template>,
    path: Option<Template>,
    method: Method,
    parameters: Option<Mapping>,
    headers: Option<Mapping>,
    body: Body,
    pub auth: Auth,
    pub errors: ErrorHandler,
    /// Whether answers may be kept for the time of a sync; `None` when the manifest does not say.
    pub use_cache: Option<bool>,
}

impl Requester {
    pub fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        if component.kind() != "HttpRequester" {
            return Err(component.unsupported());
        }
        let method = match component.text("http_method") {
            None | Some("GET") => Method::GET,
            Some("POST") => Method::POST,
            Some(_) => return Err(component.invalid("http_method", "must be GET or POST")),
        };
        for field in ["query_properties", "fetch_properties_from_endpoint"] {
            if component.get(field).is_some() {
                return Err(component.unsupported_field(field));
            }
        }
        if let Some(Value::Object(parameters)) = component.get("request_parameters") {
            // Such as properties that are asked for in chunks.
            let nested = parameters.iter().find(|(_, value)| value.is_object());
            if let Some((name, value)) = nested {
                let place = format!("{}.request_parameters.{name}", component.path());
                return Err(Component::new(value, place)?.unsupported());
            }
        }
        Ok(Self {
            url: component.template("url", templates)?,
            base: component.template("url_base", templates)?,
            path: component.template("path", templates)?,
            method,
            parameters: component.mapping("request_parameters", templates)?,
            headers: component.mapping("request_headers", templates)?,
            body: body(component, templates)?,
            auth: match component.child("authenticator")? {
                Some(auth) => Auth::build(&auth, component, templates)?,
                None => Auth::None,
            },
            errors: match component.child("error_handler")? {
                Some(handler) => ErrorHandler::build(&handler, templates)?,
                None => ErrorHandler::default(),
            },
            use_cache: component
                .get("use_cache")
                .map(|_| component.flag("use_cache")),
        })
    }

    /// The fixed addresses the manifest names, its authenticator's included.
    pub fn fixed_urls(&self, urls: &mut Vec<Url>) {
        let template = self.url.as_ref().or(self.base.as_ref());
        urls.extend(template.and_then(Template::fixed_url));
        self.auth.fixed_urls(urls);
    }

    /// Builds one request. `token_path` is a paginator's URL or path, which replaces `path`.
    pub fn request(
        &self,
        scope: &Scope<'_>,
        credentials: Vec<Injection>,
        injections: Vec<Injection>,
        token_path: Option<&str>,
    ) -> Result<Request> {
        let mut url = self.address(scope, token_path)?;
        let mut all = credentials;
        all.extend(injections);

        let text_or_list = |literal: &Literal| match &literal.value {
            Value::String(_) => true,
            Value::Array(_) => !literal.is_tuple,
            _ => false,
        };
        let mut parameters = match &self.parameters {
            Some(mapping) => mapping.entries(scope, text_or_list)?,
            None => Map::new(),
        };
        let mut headers = match &self.headers {
            Some(mapping) => mapping.entries(scope, |_| true)?,
            None => Map::new(),
        };
        headers.retain(|_, value| !value.is_null());
        let mut form = None;
        let mut text = None;
        let mut json = None;
        match &self.body {
            Body::None => {}
            Body::Json(nested) | Body::Graph(nested) => json = Some(json_body(nested, scope)?),
            Body::Data(mapping) => form = Some(mapping.entries(scope, text_or_list)?),
            Body::Text(template) => {
                match template.value_if(scope, |literal| literal.value.is_object())? {
                    Value::Object(map) => form = Some(map),
                    other => text = Some(python::text(&other)),
                }
            }
        }
        for injection in all {
            match injection.place {
                Place::Parameter => add(&mut parameters, injection)?,
                Place::Header => add(&mut headers, injection)?,
                Place::BodyData => add(form.get_or_insert_default(), injection)?,
                Place::BodyJson => {
                    let body = json.get_or_insert_with(|| Value::Object(Map::new()));
                    add_nested(body, &injection.path, injection.value)?;
                }
            }
        }
        add_query(&mut url, &parameters);
        let mut request = Request::new(self.method.clone(), url);
        for (name, value) in &headers {
            let header = HeaderName::try_from(name.as_str())
                .ok()
                .zip(HeaderValue::from_str(&python::text(value)).ok());
            let Some((name, value)) = header else {
                return Err(Error::config(
                    "request_header_invalid",
                    format!("the request header `{name}` is no valid header"),
                ));
            };
            request.headers.insert(name, value);
        }
        request.body = encode(form, text, json, &mut request)?;
        Ok(request)
    }

    fn address(&self, scope: &Scope<'_>, token_path: Option<&str>) -> Result<Url> {
        let what = "the address of a request is no valid URL";
        let invalid = || {
            Error::config(
                "request_url_invalid",
                match self.url.as_ref().or(self.base.as_ref()) {
                    Some(template) => template.placed(what),
                    None => what.to_owned(),
                },
            )
            .hint("look at `url_base` and `path` of the manifest and at the connection's settings")
        };
        let (base, own_path) = match (&self.url, &self.base) {
            (Some(url), _) => (url.text(scope)?, None),
            (None, Some(base)) => (
                base.text(scope)?,
                self.path
                    .as_ref()
                    .map(|path| path.text(scope))
                    .transpose()?
                    .map(|path| path.trim_start_matches('/').to_owned()),
            ),
            (None, None) => return Err(invalid()),
        };
        let path = token_path.map(str::to_owned).or(own_path);
        let Some(path) = path.filter(|path| !path.is_empty()) else {
            return Url::parse(&base).map_err(|_| invalid());
        };
        let base = if base.ends_with('/') {
            base
        } else {
            format!("{base}/")
        };
        Url::parse(&base)
            .and_then(|base| join(&base, &path))
            .map_err(|_| invalid())
    }
}

/// A path behind a base. As in the reference runtime empty parts of a relative path vanish: an
/// address in the settings may end with a slash that the manifest repeats.
fn join(base: &Url, path: &str) -> std::result::Result<Url, url::ParseError> {
    let mut joined = base.join(path)?;
    let is_relative = !path.starts_with(['/', '?', '#']) && Url::parse(path).is_err();
    if is_relative && joined.path().contains("//") {
        let parts: Vec<&str> = joined.path().split('/').collect();
        let last = parts.len() - 1;
        let kept = parts
            .iter()
            .enumerate()
            .filter(|(index, part)| *index == 0 || *index == last || !part.is_empty());
        let path = kept.map(|(_, part)| *part).collect::<Vec<_>>().join("/");
        joined.set_path(&path);
    }
    Ok(joined)
}

fn body(component: &Component<'_>, templates: &mut Templates) -> Result<Body> {
    if let Some(body) = component.child("request_body").ok().flatten() {
        return Ok(match body.kind() {
            "RequestBodyJsonObject" => body
                .nested("value", templates)?
                .map_or(Body::None, Body::Json),
            "RequestBodyGraphQL" => body
                .nested("value", templates)?
                .map_or(Body::None, Body::Graph),
            "RequestBodyUrlEncodedForm" => body
                .mapping("value", templates)?
                .map_or(Body::None, Body::Data),
            "RequestBodyPlainText" => body
                .template("value", templates)?
                .map_or(Body::None, Body::Text),
            _ => return Err(body.unsupported()),
        });
    }
    let data = component.get("request_body_data");
    if data.is_some() && component.get("request_body_json").is_some() {
        return Err(component.invalid("request_body_json", "excludes request_body_data"));
    }
    if let Some(nested) = component.nested("request_body_json", templates)? {
        return Ok(Body::Json(nested));
    }
    Ok(match data {
        Some(Value::String(_)) => component
            .template("request_body_data", templates)?
            .map_or(Body::None, Body::Text),
        Some(_) => component
            .mapping("request_body_data", templates)?
            .map_or(Body::None, Body::Data),
        None => Body::None,
    })
}

/// As in the reference runtime, a template for all of it must not give a text, such as one that
/// could not be read, and a list is nothing.
fn json_body(nested: &Nested, scope: &Scope<'_>) -> Result<Value> {
    match nested.value(scope)? {
        Value::String(_) => Err(Error::config(
            "request_body_no_json",
            "the template of `request_body_json` gives a text, not a mapping",
        )
        .hint("values are read as in Python: True, False and None, not true, false and null")),
        Value::Array(_) => Ok(Value::Null),
        value => Ok(value),
    }
}

fn twice(key: &str) -> Error {
    Error::config(
        "request_field_twice",
        format!("the request field `{key}` is set twice"),
    )
}

fn add(map: &mut Map<String, Value>, injection: Injection) -> Result<()> {
    let key = injection.path.into_iter().next().unwrap_or_default();
    if map.contains_key(&key) {
        return Err(twice(&key));
    }
    map.insert(key, injection.value);
    Ok(())
}

/// JSON bodies merge deeply; equal values at one path are allowed.
fn add_nested(body: &mut Value, path: &[String], value: Value) -> Result<()> {
    let Some((first, rest)) = path.split_first() else {
        *body = value;
        return Ok(());
    };
    let Value::Object(map) = body else {
        return Err(twice(first));
    };
    if rest.is_empty() {
        return match map.get_mut(first) {
            Some(existing) => merge(existing, value, first),
            None => {
                map.insert(first.clone(), value);
                Ok(())
            }
        };
    }
    let child = map
        .entry(first.clone())
        .or_insert_with(|| Value::Object(Map::new()));
    add_nested(child, rest, value)
}

fn merge(existing: &mut Value, more: Value, key: &str) -> Result<()> {
    match (existing, more) {
        (Value::Object(map), Value::Object(more)) => {
            for (key, value) in more {
                match map.get_mut(&key) {
                    Some(existing) => merge(existing, value, &key)?,
                    None => {
                        map.insert(key, value);
                    }
                }
            }
            Ok(())
        }
        (existing, more) if *existing == more => Ok(()),
        _ => Err(twice(key)),
    }
}

/// Pairs of a mapping; lists repeat the key, nulls vanish.
fn pairs(map: &Map<String, Value>) -> impl Iterator<Item = (&str, String)> {
    map.iter().flat_map(|(key, value)| {
        let texts: Vec<String> = match value {
            Value::Null => Vec::new(),
            Value::Array(items) => items
                .iter()
                .filter(|item| !item.is_null())
                .map(python::text)
                .collect(),
            other => vec![python::text(other)],
        };
        texts.into_iter().map(move |text| (key.as_str(), text))
    })
}

/// A parameter that the URL already carries with the same value is not repeated.
pub fn add_query(url: &mut Url, parameters: &Map<String, Value>) {
    let present: Vec<(String, String)> = url
        .query_pairs()
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect();
    let mut query = url.query().unwrap_or_default().to_owned();
    for (key, value) in pairs(parameters) {
        if present.iter().any(|(k, v)| k == key && *v == value) {
            continue;
        }
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(&format!("{}={}", form_encode(key), form_encode(&value)));
    }
    if !query.is_empty() {
        url.set_query(Some(&query));
    }
}

/// A form as text.
pub fn encode_form(form: &Map<String, Value>) -> String {
    let encoded: Vec<String> = pairs(form)
        .map(|(key, value)| format!("{}={}", form_encode(key), form_encode(&value)))
        .collect();
    encoded.join("&")
}

/// Letters, digits and `-._~` stay, a space becomes `+`, everything else is escaped.
fn form_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

fn encode(
    form: Option<Map<String, Value>>,
    text: Option<String>,
    json: Option<Value>,
    request: &mut Request,
) -> Result<Bytes> {
    let kinds = [form.is_some(), text.is_some(), json.is_some()];
    if kinds.iter().filter(|kind| **kind).count() > 1 {
        return Err(Error::config(
            "request_body_mixed",
            "a request has two kinds of body",
        ));
    }
    let mut content_type = |value: &'static str| {
        request
            .headers
            .entry(CONTENT_TYPE)
            .or_insert(HeaderValue::from_static(value));
    };
    if let Some(text) = text {
        return Ok(Bytes::from(text));
    }
    if let Some(form) = form.filter(|form| !form.is_empty()) {
        content_type("application/x-www-form-urlencoded");
        return Ok(Bytes::from(encode_form(&form)));
    }
    if let Some(json) = json.filter(|json| !super::manifest::falsy(json)) {
        content_type("application/json");
        return serde_json::to_vec(&json).map(Bytes::from).map_err(|_| {
            Error::internal("request_body_unprintable", "a JSON body cannot be written")
        });
    }
    Ok(Bytes::new())
}

#[cfg(test)]
mod tests;
