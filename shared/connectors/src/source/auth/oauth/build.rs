//! The authenticator as the manifest describes it.

use serde_json::Value;
use sluice_core::Result;

use super::{Names, OAuth, Refused, Updater};
use crate::source::{
    auth::jwt::Jwt,
    manifest::Component,
    template::{Templates, python},
};

impl OAuth {
    pub(in crate::source::auth) fn build(
        component: &Component<'_>,
        templates: &mut Templates,
    ) -> Result<Self> {
        let assertion = assertion(component, templates)?;
        let codes = match component.get("refresh_token_error_status_codes") {
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_u64).collect(),
            _ => vec![400],
        };
        let mut or = |field: &str, default: &str| match component.template(field, templates)? {
            Some(template) => Ok(template),
            None => component.compile(&default.into(), templates),
        };
        let names = Names {
            client_id: or("client_id_name", "client_id")?,
            client_secret: or("client_secret_name", "client_secret")?,
            refresh_token: or("refresh_token_name", "refresh_token")?,
            grant_type: or("grant_type_name", "grant_type")?,
            access_token: or("access_token_name", "access_token")?,
            expires_in: or("expires_in_name", "expires_in")?,
        };
        let grant_type = or("grant_type", "refresh_token")?;
        let updater = match component.child("refresh_token_updater")? {
            Some(updater) => Some(Updater {
                refresh_token_name: match updater.template("refresh_token_name", templates)? {
                    Some(name) => name,
                    None => updater.compile(&"refresh_token".into(), templates)?,
                },
                access_token_path: texts(
                    updater.get("access_token_config_path"),
                    &["credentials", "access_token"],
                ),
                refresh_token_path: texts(
                    updater.get("refresh_token_config_path"),
                    &["credentials", "refresh_token"],
                ),
                expiry_path: texts(
                    updater.get("token_expiry_date_config_path"),
                    &["credentials", "token_expiry_date"],
                ),
            }),
            None => None,
        };
        let built = Self {
            endpoint: component.template("token_refresh_endpoint", templates)?,
            client_id: component.template("client_id", templates)?,
            client_secret: component.template("client_secret", templates)?,
            refresh_token: component.template("refresh_token", templates)?,
            grant_type,
            names,
            scopes: texts(component.get("scopes"), &[]),
            body: component.mapping("refresh_request_body", templates)?,
            headers: component.mapping("refresh_request_headers", templates)?,
            as_query: component.flag("send_refresh_request_as_query_params"),
            access_token: component.template("access_token_value", templates)?,
            expiry: component.template("token_expiry_date", templates)?,
            expiry_format: component
                .text("token_expiry_date_format")
                .map(str::to_owned),
            refused: Refused {
                codes,
                key: component
                    .text("refresh_token_error_key")
                    .unwrap_or("error")
                    .to_owned(),
                values: texts(
                    component.get("refresh_token_error_values"),
                    &["invalid_grant", "invalid_permissions"],
                ),
            },
            updater,
            assertion,
        };
        if built.assertion.is_some() {
            return Ok(built);
        }
        for (field, missing) in [
            ("client_id", built.client_id.is_none()),
            ("client_secret", built.client_secret.is_none()),
            (
                "refresh_token",
                built.refresh_token.is_none()
                    && built.updater.is_none()
                    && built.grant_type.source() == "refresh_token",
            ),
        ] {
            if missing {
                return Err(component.invalid(field, "is missing"));
            }
        }
        Ok(built)
    }
}

fn texts(value: Option<&Value>, default: &[&str]) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().map(python::text).collect(),
        Some(value) => vec![python::text(value)],
        None => default.iter().map(|text| (*text).to_owned()).collect(),
    }
}

/// `profile_assertion`, when the manifest says to use it.
fn assertion(component: &Component<'_>, templates: &mut Templates) -> Result<Option<Jwt>> {
    match component.get("use_profile_assertion") {
        Some(Value::String(text)) if text.contains("{{") => {
            return Err(component.unsupported_field("use_profile_assertion"));
        }
        _ if !component.flag("use_profile_assertion") => return Ok(None),
        _ => {}
    }
    let child = component.required("profile_assertion")?;
    child.without_class()?;
    if child.kind() != "JwtAuthenticator" {
        return Err(child.unsupported());
    }
    Jwt::build(&child, templates).map(Some)
}
