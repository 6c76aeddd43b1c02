//! How requests prove who sends them. Secrets live in templates' results only: they are put into
//! headers marked as sensitive, and into nothing else.

mod hmac;
mod oauth;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::{
    Url,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};
use serde_json::Value;
use sluice_core::{Error, ErrorClass, Result};

pub(super) use self::{
    hmac::Hmac,
    oauth::{OAuth, Ticket},
};
use super::{
    call::Session,
    requester::parse_base,
    template::{Scope, Template},
};
use crate::http::Request;

/// An authenticator, checked and ready.
#[derive(Debug)]
pub(super) enum Authenticator {
    None,
    Header {
        name: HeaderName,
        value: Template,
    },
    Basic {
        username: Template,
        password: Template,
    },
    OAuth(OAuth),
    Hmac(Hmac),
}

impl Authenticator {
    /// Where tokens come from.
    pub(super) fn url(&self, scope: &Scope<'_>) -> Result<Option<Url>> {
        match self {
            Self::OAuth(oauth) => parse_base(&filled(&oauth.endpoint, scope)?).map(Some),
            _ => Ok(None),
        }
    }

    /// Completes the request. The ticket, where there is one, names the token used.
    pub(super) async fn apply(
        &self,
        request: &mut Request,
        config: &Value,
        session: &Session<'_>,
    ) -> Result<Option<Ticket>> {
        let scope = Scope::default().with("config", config);
        match self {
            Self::None => Ok(None),
            Self::Header { name, value } => {
                set(request, name.clone(), &filled(value, &scope)?)?;
                Ok(None)
            }
            Self::Basic { username, password } => {
                let pair = format!(
                    "{}:{}",
                    filled(username, &scope)?,
                    filled(password, &scope)?
                );
                set(
                    request,
                    AUTHORIZATION,
                    &format!("Basic {}", BASE64.encode(pair)),
                )?;
                Ok(None)
            }
            Self::OAuth(oauth) => {
                let (token, ticket) = oauth.token(config, session).await?;
                set(request, AUTHORIZATION, &format!("Bearer {token}"))?;
                Ok(Some(ticket))
            }
            Self::Hmac(hmac) => {
                let now = chrono::Utc::now().timestamp();
                let nonce = uuid::Uuid::new_v4().simple().to_string();
                let value = hmac.header_value(request, config, now, &nonce)?;
                set(request, hmac.header.clone(), &value)?;
                Ok(None)
            }
        }
    }

    /// Gives up the token of this ticket, so that the next request gets a new one. `false` when
    /// there is nothing to renew.
    pub(super) async fn renew(&self, ticket: Option<Ticket>) -> bool {
        match (self, ticket) {
            (Self::OAuth(oauth), Some(ticket)) => {
                oauth.give_up(ticket).await;
                true
            }
            _ => false,
        }
    }
}

fn set(request: &mut Request, name: HeaderName, text: &str) -> Result<()> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        Error::config(
            "credentials_unusable",
            format!("the credentials cannot be sent in the header {name}"),
        )
    })?;
    value.set_sensitive(true);
    request.headers.insert(name, value);
    Ok(())
}

fn filled(template: &Template, scope: &Scope<'_>) -> Result<String> {
    template.text(scope).map_err(|unfilled| {
        Error::new(
            ErrorClass::Config,
            "credentials_missing",
            format!("`{}` is needed to authenticate and is not set", unfilled.0),
        )
    })
}
