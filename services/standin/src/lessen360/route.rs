//! Which request asks for what.

use axum::http::Method;

use super::schema::Resource;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    List(Resource),
    Single(Resource, String),
    Create(Resource),
    Change(Resource, String),
    Delete(Resource, String),
    Attach(String),
    Trades,
    Unknown,
}

impl Route {
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let resource = |name: &str| Resource::ALL.into_iter().find(|one| one.path() == name);
        match (method.as_str(), parts.as_slice()) {
            ("GET", ["v1", "trades"]) => Self::Trades,
            ("POST", ["v1", "work-orders", id, "attachments"]) => Self::Attach((*id).to_owned()),
            (method, ["v1", name]) => match (method, resource(name)) {
                ("GET", Some(resource)) => Self::List(resource),
                ("POST", Some(resource)) if resource != Resource::Attachment => {
                    Self::Create(resource)
                }
                _ => Self::Unknown,
            },
            (method, ["v1", name, id]) => match (method, resource(name)) {
                ("GET", Some(resource)) => Self::Single(resource, (*id).to_owned()),
                ("PATCH", Some(resource)) if resource != Resource::Attachment => {
                    Self::Change(resource, (*id).to_owned())
                }
                ("DELETE", Some(resource)) => Self::Delete(resource, (*id).to_owned()),
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }

    /// The name in the ledger.
    pub(super) fn operation(&self) -> String {
        match self {
            Self::List(resource) => format!("GET /v1/{}", resource.path()),
            Self::Single(resource, _) => format!("GET /v1/{}/{{id}}", resource.path()),
            Self::Create(resource) => format!("POST /v1/{}", resource.path()),
            Self::Change(resource, _) => format!("PATCH /v1/{}/{{id}}", resource.path()),
            Self::Delete(resource, _) => format!("DELETE /v1/{}/{{id}}", resource.path()),
            Self::Attach(_) => "POST /v1/work-orders/{id}/attachments".into(),
            Self::Trades => "GET /v1/trades".into(),
            Self::Unknown => "unknown".into(),
        }
    }

    /// Whether it may change records.
    pub(super) fn writes(&self) -> bool {
        matches!(
            self,
            Self::Create(_) | Self::Change(..) | Self::Delete(..) | Self::Attach(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_told_apart() {
        let of = |method: &Method, path: &str| Route::of(method, path).operation();
        assert_eq!(of(&Method::POST, "/v1/properties"), "POST /v1/properties");
        assert_eq!(
            of(&Method::PATCH, "/v1/work-orders/wo_1"),
            "PATCH /v1/work-orders/{id}"
        );
        assert_eq!(
            of(&Method::POST, "/v1/work-orders/wo_1/attachments"),
            "POST /v1/work-orders/{id}/attachments"
        );
        assert_eq!(of(&Method::GET, "/v1/attachments"), "GET /v1/attachments");
        for (method, path) in [
            (Method::POST, "/v1/attachments"),
            (Method::PATCH, "/v1/attachments/a_1"),
            (Method::PUT, "/v1/properties/p_1"),
            (Method::GET, "/v2/properties"),
            (Method::GET, "/"),
        ] {
            assert_eq!(Route::of(&method, path), Route::Unknown, "{method} {path}");
        }
    }
}
