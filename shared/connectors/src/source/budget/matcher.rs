//! Which requests a policy is about.

use fancy_regex::Regex;
use serde_json::Value;
use sluice_core::Result;

use crate::{
    http::Request,
    source::{
        manifest::Component,
        template::{Scope, Template, Templates, python},
    },
};

/// `HttpRequestRegexMatcher`.
#[derive(Debug)]
pub(super) struct Matcher {
    method: Option<String>,
    base: Option<Template>,
    path: Option<Regex>,
    params: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub(super) weight: u64,
}

impl Matcher {
    pub(super) fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        if !matches!(component.kind(), "HttpRequestRegexMatcher" | "") {
            return Err(component.unsupported());
        }
        Ok(Self {
            method: component.text("method").map(str::to_ascii_uppercase),
            base: component.template("url_base", templates)?,
            path: component
                .text("url_path_pattern")
                .map(|text| {
                    Regex::new(text)
                        .map_err(|_| component.invalid("url_path_pattern", "is not valid"))
                })
                .transpose()?,
            params: pairs(component.get("params")),
            headers: pairs(component.get("headers")),
            weight: component
                .integer("weight")
                .and_then(|weight| u64::try_from(weight).ok())
                .unwrap_or(1)
                .max(1),
        })
    }

    pub(super) fn matches(&self, request: &Request, scope: &Scope<'_>) -> Result<bool> {
        let url = &request.url;
        if let Some(base) = &self.base {
            let wanted = base.text(scope)?;
            if url.origin().ascii_serialization() != wanted.trim_end_matches('/') {
                return Ok(false);
            }
        }
        let header = |name: &str| {
            request
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let parameter = |name: &str| url.query_pairs().find(|(key, _)| key == name);
        Ok(self
            .method
            .as_ref()
            .is_none_or(|method| request.method.as_str() == method)
            && self.path.as_ref().is_none_or(|path| {
                path.is_match(url.path().trim_end_matches('/'))
                    .unwrap_or(false)
            })
            && self
                .params
                .iter()
                .all(|(name, value)| parameter(name).is_some_and(|(_, found)| found == *value))
            && self
                .headers
                .iter()
                .all(|(name, value)| header(name) == Some(value.as_str())))
    }
}

fn pairs(value: Option<&Value>) -> Vec<(String, String)> {
    match value {
        Some(Value::Object(map)) => map
            .iter()
            .map(|(key, value)| (key.clone(), python::text(value)))
            .collect(),
        _ => Vec::new(),
    }
}
