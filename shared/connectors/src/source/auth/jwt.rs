//! `JwtAuthenticator`: a signed token for each request.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use chrono::Utc;
use minijinja::value::Value as Jinja;
use serde_json::{Map, Value};
use sluice_core::{Error, Result};

use super::{header, sign::Algorithm};
use crate::source::{
    manifest::Component,
    request::{Injection, RequestOption},
    template::{Scope, Template, Templates, Texts, json},
};

/// Seconds a token is good when the manifest does not say.
const DURATION: i64 = 1200;

#[derive(Debug)]
pub struct Jwt {
    algorithm: Algorithm,
    secret: Template,
    encode_secret: bool,
    passphrase: Option<Template>,
    duration: i64,
    /// In front of the token.
    prefix: Option<Template>,
    header: Part,
    payload: Part,
    option: Option<RequestOption>,
}

/// One of the two mappings of a token.
#[derive(Debug)]
struct Part {
    named: Vec<(&'static str, Template)>,
    more: Texts,
}

impl Part {
    fn build(
        owner: &Component<'_>,
        fields: (&str, &str),
        names: &[&'static str],
        reserved: &[&str],
        templates: &mut Templates,
    ) -> Result<Self> {
        let (fields, more) = fields;
        if let Some(Value::Object(entries)) = owner.get(more)
            && let Some(name) = reserved.iter().find(|name| entries.contains_key(**name))
        {
            return Err(owner.invalid(more, &format!("must not set `{name}`")));
        }
        let mut named = Vec::new();
        if let Some(child) = owner.child(fields)? {
            for name in names {
                if let Some(template) = child.template(name, templates)? {
                    named.push((*name, template));
                }
            }
        }
        // An empty text means that there is none.
        named.retain(|(_, template)| !template.source().is_empty());
        Ok(Self {
            named,
            more: Texts::build(owner, more, templates)?,
        })
    }

    fn values(&self, scope: &Scope<'_>) -> Result<Map<String, Value>> {
        let mut map: Map<String, Value> = self.more.entries(scope)?.into_iter().collect();
        for (name, template) in &self.named {
            map.insert((*name).to_owned(), template.value(scope)?);
        }
        Ok(map)
    }
}

impl Jwt {
    pub(super) fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
        let algorithm = component.text("algorithm").unwrap_or_default();
        let mut header = Part::build(
            component,
            ("jwt_headers", "additional_jwt_headers"),
            &["kid", "typ", "cty"],
            &["kid", "alg", "typ", "cty"],
            templates,
        )?;
        let given = component.child("jwt_headers")?;
        if given.is_none_or(|given| given.get("typ").is_none()) {
            let typ = component.compile(&"JWT".into(), templates)?;
            header.named.push(("typ", typ));
        }
        Ok(Self {
            // Some names the format knows are left out: their curves are rare.
            algorithm: Algorithm::named(algorithm)
                .ok_or_else(|| component.unsupported_field("algorithm"))?,
            secret: component
                .template("secret_key", templates)?
                .ok_or_else(|| component.invalid("secret_key", "is missing"))?,
            encode_secret: component.flag("base64_encode_secret_key"),
            passphrase: component.template("passphrase", templates)?,
            duration: component.integer("token_duration").unwrap_or(DURATION),
            prefix: component.template("header_prefix", templates)?,
            header,
            payload: Part::build(
                component,
                ("jwt_payload", "additional_jwt_payload"),
                &["iss", "sub", "aud"],
                &["iss", "sub", "aud", "iat", "exp", "nbf"],
                templates,
            )?,
            option: component
                .child("request_option")?
                .map(|option| RequestOption::build(&option, templates))
                .transpose()?,
        })
    }

    /// The token where the manifest wants it.
    pub(super) fn injection(&self, scope: &Scope<'_>) -> Result<Injection> {
        let token = self.token(scope)?;
        match &self.option {
            Some(option) => option.inject(Value::String(token), scope),
            None => Ok(header("Authorization", token)),
        }
    }

    /// What tells its tokens from those of other settings, without the time.
    pub(super) fn identity(&self, scope: &Scope<'_>) -> Result<Map<String, Value>> {
        let scope = with_json_loads(scope);
        Ok(Map::from_iter([
            ("key".to_owned(), self.key(&scope)?.into()),
            ("header".to_owned(), self.header.values(&scope)?.into()),
            ("payload".to_owned(), self.payload.values(&scope)?.into()),
        ]))
    }

    /// Where the manifest takes the key from.
    pub(super) fn key_source(&self) -> &str {
        self.secret.source()
    }

    /// A new token, with its prefix.
    pub(super) fn token(&self, scope: &Scope<'_>) -> Result<String> {
        let scope = with_json_loads(scope);
        let now = Utc::now().timestamp();
        let mut header = self.header.values(&scope)?;
        header.insert("alg".into(), self.algorithm.name.into());
        let mut payload = self.payload.values(&scope)?;
        payload.insert("iat".into(), now.into());
        payload.insert("exp".into(), now.saturating_add(self.duration).into());
        payload.insert("nbf".into(), now.into());
        let part = |map| URL_SAFE_NO_PAD.encode(Value::Object(map).to_string());
        let message = format!("{}.{}", part(header), part(payload));
        let signed = self
            .algorithm
            .sign(&self.key(&scope)?, message.as_bytes())?;
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed));
        let prefix = match &self.prefix {
            Some(prefix) => prefix.text(&scope)?,
            None => String::new(),
        };
        Ok(match prefix.as_str() {
            "" => token,
            prefix => format!("{prefix} {token}"),
        })
    }

    fn key(&self, scope: &Scope<'_>) -> Result<String> {
        let secret = self.secret.text(scope)?;
        if let Some(passphrase) = &self.passphrase
            && !passphrase.text(scope)?.is_empty()
        {
            return Err(Error::config(
                "signing_key_locked",
                "keys that a passphrase locks are not supported",
            )
            .hint("`openssl pkcs8 -topk8 -nocrypt` unlocks it; keep it where the settings' secrets are kept"));
        }
        Ok(if self.encode_secret {
            STANDARD.encode(secret)
        } else {
            secret
        })
    }
}

fn with_json_loads<'a>(scope: &Scope<'a>) -> Scope<'a> {
    scope
        .clone()
        .with("json_loads", Jinja::from_function(json_loads))
}

/// For secrets that are JSON documents, such as the key files of service accounts.
fn json_loads(text: &str) -> Result<Jinja, minijinja::Error> {
    let value: Value = serde_json::from_str(text).map_err(|_| {
        minijinja::Error::new(
            minijinja::ErrorKind::BadSerialization,
            "the text is no JSON",
        )
    })?;
    Ok(json::of(&value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn jwt(fields: Value) -> (Result<Jwt>, Templates) {
        let mut templates = Templates::new();
        let component = Component::new(&fields, "manifest.auth").unwrap();
        (Jwt::build(&component, &mut templates), templates)
    }

    #[test]
    fn tokens_say_what_the_manifest_says() {
        let (jwt, templates) = jwt(json!({
            "algorithm": "HS256",
            "secret_key": "{{ json_loads(config['file'])['key'] }}",
            "header_prefix": "Bearer",
            "token_duration": 60,
            "jwt_headers": {"kid": "k"},
            "jwt_payload": {"iss": "{{ config['me'] }}"},
            "additional_jwt_payload": {"n": 5, "scope": "{{ ['a'] }}"},
        }));
        let config = json::of(&json!({"file": "{\"key\": \"planted\"}", "me": "i"}));
        let scope = Scope::new(&templates, &config);
        let token = jwt.unwrap().token(&scope).unwrap();
        let parts: Vec<&str> = token.strip_prefix("Bearer ").unwrap().split('.').collect();
        let [header, payload, signed] = parts.as_slice() else {
            panic!("three parts");
        };
        let read = |part: &str| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        assert_eq!(
            read(header),
            json!({"kid": "k", "typ": "JWT", "alg": "HS256"})
        );
        let payload_value = read(payload);
        assert_eq!(payload_value["iss"], "i");
        assert_eq!(payload_value["scope"], json!(["a"]));
        assert_eq!(payload_value["n"], 5);
        let at = |name: &str| payload_value[name].as_i64().unwrap();
        assert_eq!(at("exp"), at("iat") + 60);
        assert_eq!(at("nbf"), at("iat"));
        let expected = Algorithm::named("HS256")
            .unwrap()
            .sign("planted", format!("{header}.{payload}").as_bytes())
            .unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(signed).unwrap(), expected);
    }

    #[test]
    fn bad_authenticators_are_refused_with_their_place() {
        for (fields, place) in [
            (
                json!({"type": "JwtAuthenticator", "algorithm": "ES256K", "secret_key": "x"}),
                "`algorithm` of JwtAuthenticator at manifest.auth",
            ),
            (
                json!({"algorithm": "HS256"}),
                "manifest.auth.secret_key: is missing",
            ),
            (
                json!({"algorithm": "HS256", "secret_key": "x", "additional_jwt_payload": {"exp": 1}}),
                "manifest.auth.additional_jwt_payload",
            ),
            (
                json!({"algorithm": "HS256", "secret_key": "x", "additional_jwt_headers": [1]}),
                "manifest.auth.additional_jwt_headers",
            ),
        ] {
            let error = jwt(fields).0.unwrap_err();
            assert!(error.message().contains(place), "{error}");
        }
        let (locked, templates) =
            jwt(json!({"algorithm": "RS256", "secret_key": "planted", "passphrase": "words"}));
        let config = Jinja::UNDEFINED;
        let error = locked
            .unwrap()
            .token(&Scope::new(&templates, &config))
            .unwrap_err();
        assert_eq!(error.code(), "signing_key_locked");
    }
}
