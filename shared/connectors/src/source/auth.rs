//! Authenticators. Evaluated for every request.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sluice_core::Result;

use super::{
    manifest::Component,
    request::{Injection, Place, RequestOption},
    template::{Scope, Template, Templates},
};

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
}

impl Auth {
    pub fn build(component: &Component<'_>, templates: &mut Templates) -> Result<Self> {
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
            _ => return Err(component.unsupported()),
        })
    }

    /// What it adds to a request.
    pub fn injections(&self, scope: &Scope<'_>) -> Result<Vec<Injection>> {
        let header = |name: &str, value: String| Injection {
            place: Place::Header,
            path: vec![name.to_owned()],
            value: Value::String(value),
        };
        Ok(match self {
            Self::None => Vec::new(),
            Self::Bearer(token) => {
                vec![header(
                    "Authorization",
                    format!("Bearer {}", token.text(scope)?),
                )]
            }
            Self::Basic { username, password } => {
                let password = match password {
                    Some(password) => password.text(scope)?,
                    None => String::new(),
                };
                let pair = format!("{}:{password}", username.text(scope)?);
                vec![header(
                    "Authorization",
                    format!("Basic {}", STANDARD.encode(pair)),
                )]
            }
            Self::ApiKey { option, token } => {
                vec![option.inject(Value::String(token.text(scope)?), scope)?]
            }
            Self::HeaderKey {
                header: name,
                token,
            } => vec![header(&name.text(scope)?, token.text(scope)?)],
        })
    }
}
