//! Pagination: which page comes next, and noticing when pages go in circles (promise I4).

use minijinja::value::Value as Jinja;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_core::{Error, ErrorClass, Hash, Result};

use super::{
    manifest::{Component, falsy},
    record::Record,
    request::{Injection, RequestOption},
    template::{Scope, Template, Templates},
};

/// `DefaultPaginator` or none.
#[derive(Debug)]
pub struct Paginator {
    strategy: Option<Strategy>,
    token: Option<TokenPlace>,
    size: Option<RequestOption>,
}

#[derive(Debug)]
enum TokenPlace {
    Option(RequestOption),
    /// The token is the next page's URL or path.
    Path,
}

#[derive(Debug)]
enum Strategy {
    Page {
        start: i64,
        size: Option<Template>,
        on_first: bool,
    },
    Offset {
        size: Option<Template>,
        on_first: bool,
    },
    Cursor {
        value: Template,
        stop: Option<Template>,
        size: Option<Template>,
    },
}

/// What the strategy needs to know about the page just read.
pub struct Seen<'a> {
    /// Nothing when no template of the paginator uses it.
    pub response: Jinja,
    pub headers: Jinja,
    /// Records before filtering.
    pub extracted: usize,
    /// Records after filtering.
    pub emitted: usize,
    pub last_record: Option<&'a Record>,
    pub records_hash: Option<Hash>,
}

/// Where pagination stands; stored as progress between pages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Token of the page to be read next; null on the first page.
    #[serde(default)]
    pub token: Value,
    #[serde(default)]
    tokens: Cycle,
    #[serde(default)]
    pages: Cycle,
}

impl Paginator {
    pub fn build(component: Option<&Component<'_>>, templates: &mut Templates) -> Result<Self> {
        let none = Self {
            strategy: None,
            token: None,
            size: None,
        };
        let Some(component) = component else {
            return Ok(none);
        };
        component.without_class()?;
        match component.kind() {
            "NoPagination" => return Ok(none),
            "DefaultPaginator" => {}
            _ => return Err(component.unsupported()),
        }
        let strategy = Strategy::build(&component.required("pagination_strategy")?, templates)?;
        let token = match component.child("page_token_option")? {
            None => None,
            Some(option) if option.kind() == "RequestPath" => Some(TokenPlace::Path),
            Some(option) => Some(TokenPlace::Option(RequestOption::build(
                &option, templates,
            )?)),
        };
        let size = component
            .child("page_size_option")?
            .map(|option| RequestOption::build(&option, templates))
            .transpose()?;
        if size.is_some() && strategy.size().is_none() {
            return Err(component.invalid(
                "page_size_option",
                "needs a page_size in the pagination strategy",
            ));
        }
        Ok(Self {
            strategy: Some(strategy),
            token,
            size,
        })
    }

    /// The position before the first page.
    pub fn start(&self) -> Position {
        let token = match &self.strategy {
            Some(Strategy::Page {
                start,
                on_first: true,
                ..
            }) => Value::from(*start),
            Some(Strategy::Offset { on_first: true, .. }) => Value::from(0),
            _ => Value::Null,
        };
        Position {
            token,
            ..Position::default()
        }
    }

    /// What goes into the request of a page, and the URL or path when the token is one.
    pub fn injections(
        &self,
        position: &Position,
        scope: &Scope<'_>,
    ) -> Result<(Vec<Injection>, Option<String>)> {
        let mut all = Vec::new();
        let mut path = None;
        if !position.token.is_null() {
            match &self.token {
                Some(TokenPlace::Option(option)) => {
                    all.push(option.inject(position.token.clone(), scope)?);
                }
                Some(TokenPlace::Path) => {
                    path = Some(super::template::python::text(&position.token));
                }
                None => {}
            }
        }
        if let (Some(option), Some(size)) = (
            &self.size,
            self.strategy.as_ref().and_then(|strategy| strategy.size()),
        ) {
            let scope_with = scope.clone().with("response", Jinja::from(()));
            all.push(option.inject(size.value(&scope_with)?, scope)?);
        }
        Ok((all, path))
    }

    /// The position after a page; `None` at the end.
    ///
    /// # Errors
    /// `pagination_loop` when tokens or pages repeat.
    pub fn next(
        &self,
        position: &Position,
        seen: &Seen<'_>,
        scope: &Scope<'_>,
    ) -> Result<Option<Position>> {
        let Some(strategy) = &self.strategy else {
            return Ok(None);
        };
        let token = strategy.next(&position.token, seen, scope)?;
        if falsy(&token) {
            return Ok(None);
        }
        let mut next = Position {
            token,
            ..position.clone()
        };
        let repeats = next.tokens.repeats(Hash::of_json(&next.token))
            || seen
                .records_hash
                .is_some_and(|hash| next.pages.repeats(hash));
        if repeats {
            return Err(Error::new(
                ErrorClass::TargetError,
                "pagination_loop",
                "the system keeps sending the same page or the same page token",
            )
            .hint("look at the pagination of the connector's manifest"));
        }
        Ok(Some(next))
    }

    /// Whether there can be a second page at all.
    pub fn is_active(&self) -> bool {
        self.strategy.is_some()
    }

    /// Whether finding the next page takes the whole response: copying one costs as much as
    /// reading it.
    pub fn uses_response(&self) -> bool {
        self.strategy.as_ref().is_some_and(Strategy::uses_response)
    }
}

impl Strategy {
    fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        component.without_class()?;
        let size = component.template("page_size", templates)?;
        let on_first = component.flag("inject_on_first_request");
        Ok(match component.kind() {
            "PageIncrement" => Self::Page {
                start: component.integer("start_from_page").unwrap_or(0),
                size,
                on_first,
            },
            "OffsetIncrement" => Self::Offset { size, on_first },
            "CursorPagination" => Self::Cursor {
                value: component
                    .template("cursor_value", templates)?
                    .ok_or_else(|| component.invalid("cursor_value", "is missing"))?,
                stop: component.template("stop_condition", templates)?,
                size,
            },
            _ => return Err(component.unsupported()),
        })
    }

    fn size(&self) -> Option<&Template> {
        match self {
            Self::Page { size, .. } | Self::Offset { size, .. } | Self::Cursor { size, .. } => {
                size.as_ref()
            }
        }
    }

    fn uses_response(&self) -> bool {
        let used = |template: Option<&Template>| template.is_some_and(|it| it.uses("response"));
        used(self.size())
            || match self {
                Self::Cursor { value, stop, .. } => used(Some(value)) || used(stop.as_ref()),
                Self::Page { .. } | Self::Offset { .. } => false,
            }
    }

    fn page_size(
        size: Option<&Template>,
        seen: &Seen<'_>,
        scope: &Scope<'_>,
    ) -> Result<Option<u64>> {
        let Some(size) = size else {
            return Ok(None);
        };
        let mut scope = scope.clone();
        if size.uses("response") {
            scope = scope.with("response", seen.response.clone());
        }
        match size.value(&scope)? {
            Value::Null => Ok(None),
            value => value
                .as_u64()
                .or_else(|| value.as_str()?.parse().ok())
                .map(Some)
                .ok_or_else(|| {
                    Error::config("page_size_invalid", "a page size is no whole number")
                }),
        }
    }

    fn next(&self, token: &Value, seen: &Seen<'_>, scope: &Scope<'_>) -> Result<Value> {
        let count = seen.extracted as u64;
        match self {
            Self::Page { start, size, .. } => {
                let size = Self::page_size(size.as_ref(), seen, scope)?;
                if count == 0 || size.is_some_and(|size| count < size) {
                    return Ok(Value::Null);
                }
                let page = token.as_i64().unwrap_or(*start);
                Ok(page.checked_add(1).map_or(Value::Null, Value::from))
            }
            Self::Offset { size, .. } => {
                let size = Self::page_size(size.as_ref(), seen, scope)?;
                if count == 0 || size.is_some_and(|size| count < size) {
                    return Ok(Value::Null);
                }
                let offset = token.as_u64().unwrap_or(0);
                Ok(offset.checked_add(count).map_or(Value::Null, Value::from))
            }
            Self::Cursor { value, stop, size } => {
                let mut scope = scope
                    .clone()
                    .with("headers", seen.headers.clone())
                    .with("last_page_size", Jinja::from(seen.emitted))
                    .with(
                        "last_record",
                        seen.last_record.map_or(Jinja::from(()), Record::to_jinja),
                    );
                let response_used = value.uses("response")
                    || stop.as_ref().is_some_and(|stop| stop.uses("response"));
                if response_used {
                    scope = scope.with("response", seen.response.clone());
                }
                let page_size = Self::page_size(size.as_ref(), seen, &scope)?;
                scope = scope.with("page_size", page_size.map_or(Jinja::from(()), Jinja::from));
                if let Some(stop) = stop
                    && stop.truth(&scope)?
                {
                    return Ok(Value::Null);
                }
                value.value(&scope)
            }
        }
    }
}

/// Notices repetition in a sequence with constant memory: the newest value is compared with one
/// kept from earlier, and the kept one is renewed at powers of two, so that a cycle of any length
/// is found. Source: R. P. Brent, "An improved Monte Carlo factorization algorithm" (1980).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Cycle {
    kept: Option<String>,
    #[serde(default)]
    since: u64,
    #[serde(default)]
    power: u64,
}

impl Cycle {
    fn repeats(&mut self, hash: Hash) -> bool {
        let hash = hash.to_hex();
        if self.kept.as_ref() == Some(&hash) {
            return true;
        }
        self.since += 1;
        if self.kept.is_none() || self.since >= self.power {
            self.kept = Some(hash);
            self.power = self.power.max(1).saturating_mul(2);
            self.since = 0;
        }
        false
    }
}

#[cfg(test)]
mod tests;
