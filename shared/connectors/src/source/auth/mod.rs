//! Authenticators. Evaluated for every request.

mod jwt;
mod legacy;
mod oauth;
mod session;
mod sign;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use futures::{FutureExt as _, future::BoxFuture};
use secrecy::SecretString;
use serde_json::Value;
use sluice_core::{Error, Hash, Result};

use super::{
    Source,
    manifest::Component,
    request::{Injection, Place, RequestOption},
    template::{Scope, Template, Templates, python},
};
use jwt::Jwt;
use legacy::Legacy;
use oauth::OAuth;
use session::Session;

/// How requests prove who asks.
#[derive(Debug)]
pub enum Auth {
    None,
    Bearer(Template),
    Basic {
        username: Template,
        password: Option<Template>,
    },
    ApiKey {
        option: RequestOption,
        token: Template,
    },
    /// The deprecated form of an API key: a header's name.
    HeaderKey {
        header: Template,
        token: Template,
    },
    Refreshed(Box<OAuth>),
    Session(Box<Session>),
    /// A token made here for each request.
    Signed(Box<Jwt>),
    Legacy(Box<Legacy>),
    /// One of several, chosen by a setting.
    Selective {
        path: Vec<String>,
        choices: Vec<(String, Auth)>,
    },
    /// A choice that cannot be made; the others of its kind can.
    Refused(Box<Error>),
}

/// What an authenticator adds to a request.
#[derive(Debug, Default)]
pub struct Added {
    pub injections: Vec<Injection>,
    /// The fetched token among them, if there is one.
    pub ticket: Option<Ticket>,
}

/// Names the token a request was sent with.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    key: Hash,
    generation: u64,
}

/// Tokens fetched from the other side: one per set of credentials, for all streams of a source.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<HashMap<Hash, Arc<Slot>>>);

/// One token. Its lock is held while a new one is fetched, so that all others wait for it.
type Slot = tokio::sync::Mutex<Token>;

#[derive(Debug, Default)]
struct Token {
    value: Option<SecretString>,
    /// `None`: good until it is refused.
    until: Option<DateTime<Utc>>,
    /// Counts the tokens fetched.
    generation: u64,
    /// The refresh token that took the place of the configured one.
    refresh_token: Option<SecretString>,
    /// The number of the last one that the fleet shared.
    shared: i64,
}

impl Tokens {
    fn slot(&self, key: Hash) -> Arc<Slot> {
        // Nothing panics while the lock is held. The number of keys is that of the manifest's
        // authenticators.
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key).or_default())
    }

    /// Forgets the token of a ticket; a newer one stays.
    pub async fn give_up(&self, ticket: Ticket) {
        let slot = self.slot(ticket.key);
        let mut token = slot.lock().await;
        if token.generation == ticket.generation {
            token.value = None;
        }
    }
}

impl Token {
    /// The value while it is good.
    fn good(&self, now: DateTime<Utc>) -> Option<&SecretString> {
        self.value
            .as_ref()
            .filter(|_| self.until.is_none_or(|until| now < until))
    }
}

impl Auth {
    /// Builds an authenticator of the requester `owner`.
    pub fn build(
        component: &Component<'_>,
        owner: &Component<'_>,
        templates: &mut Templates,
    ) -> Result<Self> {
        component.without_class()?;
        let mut required = |field: &str| -> Result<Template> {
            component
                .template(field, templates)?
                .ok_or_else(|| component.invalid(field, "is missing"))
        };
        Ok(match component.kind() {
            "NoAuth" => Self::None,
            "BearerAuthenticator" => Self::Bearer(required("api_token")?),
            "BasicHttpAuthenticator" => Self::Basic {
                username: required("username")?,
                password: component.template("password", templates)?,
            },
            "ApiKeyAuthenticator" => {
                let token = required("api_token")?;
                match component.child("inject_into")? {
                    Some(option) => Self::ApiKey {
                        option: RequestOption::build(&option, templates)?,
                        token,
                    },
                    None => Self::HeaderKey {
                        header: required("header")?,
                        token,
                    },
                }
            }
            "OAuthAuthenticator" => Self::Refreshed(Box::new(OAuth::build(component, templates)?)),
            "SessionTokenAuthenticator" => {
                Self::Session(Box::new(Session::build(component, templates)?))
            }
            "JwtAuthenticator" => Self::Signed(Box::new(Jwt::build(component, templates)?)),
            "LegacySessionTokenAuthenticator" => {
                Self::Legacy(Box::new(Legacy::build(component, owner, templates)?))
            }
            "SelectiveAuthenticator" => selective(component, owner, templates)?,
            _ => return Err(component.unsupported()),
        })
    }

    /// The one among a `SelectiveAuthenticator`'s choices that the settings name.
    fn chosen(&self, config: &Value) -> Result<&Self> {
        let Self::Selective { path, choices } = self else {
            return Ok(self);
        };
        let name = path
            .iter()
            .try_fold(config, |value, key| value.get(key))
            .map(python::text);
        let found = choices
            .iter()
            .find(|(known, _)| Some(known) == name.as_ref());
        match found {
            Some((_, Self::Refused(refusal))) => Err((**refusal).clone()),
            Some((_, auth)) => auth.chosen(config),
            None => Err(Error::config(
                "authenticator_not_selected",
                format!(
                    "the setting `{}` names none of the connector's authenticators",
                    path.join(".")
                ),
            )
            .hint(format!(
                "it may be one of: {}",
                choices
                    .iter()
                    .map(|(name, _)| name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ))),
        }
    }

    /// What it adds to a request; a token is fetched when there is no good one.
    pub fn prepare<'a>(&'a self, source: &'a Source) -> BoxFuture<'a, Result<Added>> {
        async move {
            let scope = source.scope();
            let plain = |injection: Injection| Added {
                injections: vec![injection],
                ticket: None,
            };
            Ok(match self.chosen(source.settings())? {
                Self::None | Self::Selective { .. } | Self::Refused(_) => Added::default(),
                Self::Bearer(token) => plain(bearer(&token.text(&scope)?)),
                Self::Basic { username, password } => {
                    let password = match password {
                        Some(password) => password.text(&scope)?,
                        None => String::new(),
                    };
                    let pair = format!("{}:{password}", username.text(&scope)?);
                    plain(header(
                        "Authorization",
                        format!("Basic {}", STANDARD.encode(pair)),
                    ))
                }
                Self::ApiKey { option, token } => {
                    plain(option.inject(Value::String(token.text(&scope)?), &scope)?)
                }
                Self::HeaderKey {
                    header: name,
                    token,
                } => plain(header(&name.text(&scope)?, token.text(&scope)?)),
                Self::Refreshed(oauth) => oauth.prepare(source).await?,
                Self::Session(session) => session.prepare(source).await?,
                Self::Signed(jwt) => plain(jwt.injection(&scope)?),
                Self::Legacy(legacy) => legacy.prepare(source).await?,
            })
        }
        .boxed()
    }

    /// Whether a new token may help after an answer of 401, without the manifest saying so.
    pub fn renews_when_refused(&self, config: &Value) -> bool {
        matches!(self.chosen(config), Ok(Self::Session(_) | Self::Legacy(_)))
    }

    /// Why choices of a `SelectiveAuthenticator` cannot be made.
    pub fn refusals(&self) -> Vec<&Error> {
        match self {
            Self::Selective { choices, .. } => choices
                .iter()
                .flat_map(|(_, choice)| choice.refusals())
                .collect(),
            Self::Refused(refusal) => vec![refusal],
            _ => Vec::new(),
        }
    }

    /// Requesters of its own, whose addresses are called too.
    pub fn fixed_urls(&self, urls: &mut Vec<url::Url>) {
        match self {
            Self::Refreshed(oauth) => urls.extend(oauth.fixed_url()),
            Self::Session(session) => session.login.fixed_urls(urls),
            Self::Selective { choices, .. } => {
                choices.iter().for_each(|(_, auth)| auth.fixed_urls(urls));
            }
            _ => {}
        }
    }
}

fn selective(
    component: &Component<'_>,
    owner: &Component<'_>,
    templates: &mut Templates,
) -> Result<Auth> {
    let path = match component.get("authenticator_selection_path") {
        Some(Value::Array(parts)) => parts.iter().map(python::text).collect(),
        _ => {
            return Err(component.invalid("authenticator_selection_path", "must be a list"));
        }
    };
    let Some(Value::Object(named)) = component.get("authenticators") else {
        return Err(component.invalid("authenticators", "must be a mapping"));
    };
    let all = component.required("authenticators")?;
    let mut choices = Vec::new();
    for name in named.keys() {
        let choice = all.required(name)?;
        choices.push((name.clone(), Auth::build(&choice, owner, templates)));
    }
    // Without any that can be made it is the stream that cannot be read.
    if choices.iter().all(|(_, choice)| choice.is_err()) {
        choices
            .drain(..)
            .try_for_each(|(_, choice)| choice.map(drop))?;
    }
    let refused = |refusal: Error| {
        Auth::Refused(Box::new(refusal.hint(
            "settings that choose these credentials cannot be used; others of the stream can",
        )))
    };
    let choices = choices
        .into_iter()
        .map(|(name, choice)| (name, choice.unwrap_or_else(refused)))
        .collect();
    Ok(Auth::Selective { path, choices })
}

fn header(name: &str, value: String) -> Injection {
    Injection {
        place: Place::Header,
        path: vec![name.to_owned()],
        value: Value::String(value),
    }
}

fn bearer(token: &str) -> Injection {
    header("Authorization", format!("Bearer {token}"))
}

/// A scope with the settings and a fetched token under a name.
fn with_token<'a>(scope: &Scope<'a>, name: &'a str, token: &str) -> Scope<'a> {
    scope
        .clone()
        .with(name, minijinja::value::Value::from(token))
}
