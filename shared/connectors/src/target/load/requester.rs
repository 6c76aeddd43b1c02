//! Requesters, their parts and authenticators.

use std::sync::Arc;

use reqwest::{Method, header::AUTHORIZATION};
use sluice_core::Result;

use super::{Defaults, File};
use crate::target::{
    auth::{Authenticator, Hmac, OAuth},
    model,
    outcome::ErrorRules,
    requester::{Body, Content, Part, Requester},
};

impl File<'_> {
    pub(super) fn requester(
        &self,
        at: &str,
        model: model::Requester,
        defaults: &Defaults,
        roots: &[&str],
    ) -> Result<Requester> {
        let key = |name: &str| format!("{at}.{name}");
        let url_base = model
            .url_base
            .or_else(|| defaults.requester.url_base.clone())
            .ok_or_else(|| self.invalid(&key("url_base"), "is missing, here and in defaults"))?;
        let method = model
            .http_method
            .or_else(|| defaults.requester.http_method.clone())
            .ok_or_else(|| self.invalid(&key("http_method"), "is missing, here and in defaults"))?;
        let mut headers = defaults.requester.request_headers.clone();
        headers.extend(model.request_headers);
        let mut parameters = defaults.requester.request_parameters.clone();
        parameters.extend(model.request_parameters);
        let body = match (model.request_body_json, model.request_body_multipart) {
            (None, None) => Body::None,
            (Some(json), None) => Body::Json(self.json(&key("request_body_json"), &json, roots)?),
            (None, Some(parts)) => Body::Multipart(
                parts
                    .into_iter()
                    .enumerate()
                    .map(|(i, part)| {
                        self.part(&key(&format!("request_body_multipart[{i}]")), part, roots)
                    })
                    .collect::<Result<_>>()?,
            ),
            (Some(_), Some(_)) => return Err(self.invalid(at, "only one body is possible")),
        };
        Ok(Requester {
            method: Method::from_bytes(method.as_bytes())
                .map_err(|_| self.invalid(&key("http_method"), "is no HTTP method"))?,
            url_base: self.template(&key("url_base"), &url_base, &["config"])?,
            path: self
                .template(
                    &key("path"),
                    model.path.as_deref().unwrap_or_default(),
                    roots,
                )?
                .segments(),
            headers: headers
                .iter()
                .map(|(name, text)| {
                    let at = key("request_headers");
                    Ok((self.header(&at, name)?, self.template(&at, text, roots)?))
                })
                .collect::<Result<_>>()?,
            parameters: parameters
                .iter()
                .map(|(name, value)| {
                    let value = self.json(&key("request_parameters"), value, roots)?;
                    Ok((name.clone(), value))
                })
                .collect::<Result<_>>()?,
            body,
            authenticator: match &model.authenticator {
                Some(own) => Arc::new(self.authenticator(&key("authenticator"), own)?),
                None => defaults.authenticator.clone(),
            },
            rules: ErrorRules::merged(
                model.error_handler,
                defaults.requester.error_handler.as_ref(),
            ),
        })
    }

    fn part(&self, at: &str, part: model::Part, roots: &[&str]) -> Result<Part> {
        let text = |name: &str, text: &str| self.template(&format!("{at}.{name}"), text, roots);
        Ok(Part {
            filename: part
                .filename
                .map(|name| text("filename", &name))
                .transpose()?,
            content_type: text("content_type", &part.content_type)?,
            content: match (&part.json, &part.base64) {
                (Some(json), None) => {
                    Content::Json(self.json(&format!("{at}.json"), json, roots)?)
                }
                (None, Some(base64)) => Content::Base64(text("base64", base64)?),
                _ => return Err(self.invalid(at, "needs exactly one of json and base64")),
            },
            name: part.name,
        })
    }

    pub(super) fn authenticator(
        &self,
        at: &str,
        model: &model::Authenticator,
    ) -> Result<Authenticator> {
        const CONFIG: &[&str] = &["config"];
        let text = |name: &str, text: &str| self.template(&format!("{at}.{name}"), text, CONFIG);
        Ok(match model {
            model::Authenticator::None {} => Authenticator::None,
            model::Authenticator::Bearer { api_token } => Authenticator::Header {
                name: AUTHORIZATION,
                value: text("api_token", &format!("Bearer {api_token}"))?,
            },
            model::Authenticator::Basic { username, password } => Authenticator::Basic {
                username: text("username", username)?,
                password: text("password", password)?,
            },
            model::Authenticator::ApiKey { api_token, header } => Authenticator::Header {
                name: self.header(&format!("{at}.header"), header)?,
                value: text("api_token", api_token)?,
            },
            model::Authenticator::OAuth {
                token_refresh_endpoint,
                client_id,
                client_secret,
                grant_type: model::GrantType::ClientCredentials,
                scopes,
                access_token_name,
                expires_in_name,
            } => Authenticator::OAuth(OAuth {
                endpoint: text("token_refresh_endpoint", token_refresh_endpoint)?,
                client_id: text("client_id", client_id)?,
                client_secret: text("client_secret", client_secret)?,
                scopes: scopes
                    .iter()
                    .map(|scope| text("scopes", scope))
                    .collect::<Result<_>>()?,
                access_token_name: access_token_name.clone(),
                expires_in_name: expires_in_name.clone(),
                state: tokio::sync::Mutex::default(),
            }),
            model::Authenticator::Hmac {
                algorithm,
                encoding,
                secret,
                message,
                header,
                value,
            } => {
                let with = |name: &str, text: &str, roots: &[&str]| {
                    self.template(&format!("{at}.{name}"), text, roots)
                };
                const SIGNED: &[&str] = &["config", "request", "timestamp", "nonce"];
                const SHOWN: &[&str] = &["config", "request", "timestamp", "nonce", "signature"];
                Authenticator::Hmac(Hmac {
                    algorithm: *algorithm,
                    encoding: *encoding,
                    secret: text("secret", secret)?,
                    message: with("message", message, SIGNED)?,
                    header: self.header(&format!("{at}.header"), header)?,
                    value: with("value", value, SHOWN)?,
                })
            }
        })
    }
}
