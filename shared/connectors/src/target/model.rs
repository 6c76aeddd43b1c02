//! `operations.yaml` as written. Names are those of the read side's components where both have
//! the same thing; `docs/connectors/operations.md` describes every key.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    outcome::Outcome,
    select::{ListPath, Path},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[serde(rename = "type")]
    pub(super) _type: TargetType,
    /// Of the format. Only 1 exists.
    pub(super) version: u32,
    /// Parts to be referred to by `$ref`.
    #[serde(default, rename = "definitions")]
    pub(super) _definitions: Value,
    #[serde(default)]
    pub(super) defaults: Requester,
    pub(super) check: Check,
    /// In order; each is an [`Entity`].
    pub(super) entities: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) enum TargetType {
    DeclarativeTarget,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    pub(super) requester: Requester,
    /// Must lead to something in a good answer.
    #[serde(default)]
    pub(super) field_path: Path,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entity {
    pub(super) create: Option<Write>,
    pub(super) update: Option<Write>,
    pub(super) delete: Option<Write>,
    pub(super) lookup: Option<Lookup>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum Write {
    /// One record per call.
    #[serde(rename = "RecordWrite")]
    Record {
        requester: Box<Requester>,
        /// Where a good answer shows the record's id.
        #[serde(default)]
        id_path: Option<Path>,
        /// Where an "exists already" answer shows the id of the record that is there.
        #[serde(default)]
        existing_id_path: Option<Path>,
        #[serde(default)]
        content_limit: Option<ContentLimit>,
    },
    /// Many records per call, and a list of results.
    #[serde(rename = "BatchWrite")]
    Batch {
        batch_size: usize,
        /// Bytes that the entries of one call have together; a larger entry goes alone.
        #[serde(default)]
        batch_bytes: Option<usize>,
        requester: Box<Requester>,
        /// What is sent per record; the whole body by default.
        #[serde(default)]
        item: Option<Value>,
        result_selector: Box<ResultSelector>,
        #[serde(default)]
        content_limit: Option<ContentLimit>,
    },
    /// The system has no such operation, and nothing is missed: it counts as done.
    #[serde(rename = "NoWrite")]
    Nothing {},
}

/// How large the bytes behind a base64 text may be; refused before sending.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContentLimit {
    pub(super) field_path: Path,
    pub(super) max_bytes: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lookup {
    pub(super) batch_size: usize,
    pub(super) requester: Requester,
    pub(super) extractor: Extractor,
    /// Where a found record shows our reference.
    pub(super) reference_path: Path,
    /// Where a found record shows its id.
    pub(super) id_path: Path,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Extractor {
    #[serde(rename = "type")]
    pub(super) _type: Option<ExtractorType>,
    pub(super) field_path: ListPath,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) enum ExtractorType {
    DpathExtractor,
}

/// How the list of results of a batch is read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResultSelector {
    pub(super) extractor: Extractor,
    /// Where a result shows the position of its record; without it, results are in order.
    #[serde(default)]
    pub(super) index_path: Option<Path>,
    pub(super) success_path: Path,
    pub(super) id_path: Path,
    /// What a done record must show besides, such as an id given by the system: some say success
    /// and have done nothing.
    #[serde(default)]
    pub(super) confirmed_by: Option<Path>,
    /// Codes of a refused record.
    pub(super) error_code_path: Path,
    /// Names of the fields they concern.
    #[serde(default)]
    pub(super) error_field_path: Option<Path>,
    /// What the codes mean; any other is `validation`.
    #[serde(default)]
    pub(super) outcomes: BTreeMap<String, Outcome>,
    /// Errors beside the list, for records without a result.
    #[serde(default)]
    pub(super) item_errors: Option<ItemErrors>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ItemErrors {
    pub(super) extractor: Extractor,
    /// Where an error shows the position of its record: the last number found counts.
    pub(super) index_path: Path,
    pub(super) error_code_path: Path,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Requester {
    #[serde(rename = "type")]
    pub(super) _type: Option<RequesterType>,
    pub(super) url_base: Option<String>,
    pub(super) path: Option<String>,
    pub(super) http_method: Option<String>,
    pub(super) request_headers: BTreeMap<String, String>,
    pub(super) request_parameters: Map<String, Value>,
    pub(super) request_body_json: Option<Value>,
    pub(super) request_body_multipart: Option<Vec<Part>>,
    pub(super) authenticator: Option<Authenticator>,
    pub(super) error_handler: Option<ErrorHandler>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) enum RequesterType {
    HttpRequester,
}

/// One part of a multipart form: exactly one of `json` and `base64`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) filename: Option<String>,
    pub(super) content_type: String,
    pub(super) json: Option<Value>,
    /// A template that yields base64 text; its bytes are sent.
    pub(super) base64: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum Authenticator {
    #[serde(rename = "NoAuth")]
    None {},
    #[serde(rename = "BearerAuthenticator")]
    Bearer { api_token: String },
    #[serde(rename = "BasicHttpAuthenticator")]
    Basic {
        username: String,
        #[serde(default)]
        password: String,
    },
    #[serde(rename = "ApiKeyAuthenticator")]
    ApiKey { api_token: String, header: String },
    #[serde(rename = "OAuthAuthenticator")]
    OAuth {
        token_refresh_endpoint: String,
        client_id: String,
        client_secret: String,
        grant_type: GrantType,
        #[serde(default)]
        scopes: Vec<String>,
        #[serde(default = "access_token")]
        access_token_name: String,
        #[serde(default = "expires_in")]
        expires_in_name: String,
    },
    /// Every request is signed; not known to the read side.
    #[serde(rename = "HmacAuthenticator")]
    Hmac {
        algorithm: HmacAlgorithm,
        encoding: Encoding,
        secret: String,
        message: String,
        header: String,
        value: String,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum GrantType {
    ClientCredentials,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum HmacAlgorithm {
    SHA256,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Encoding {
    Base64,
    Hex,
}

fn access_token() -> String {
    "access_token".to_owned()
}

fn expires_in() -> String {
    "expires_in".to_owned()
}

/// What bad answers mean.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ErrorHandler {
    #[serde(rename = "type")]
    pub(super) _type: Option<ErrorHandlerType>,
    /// Where an answer shows its error codes.
    pub(super) error_code_path: Option<Path>,
    /// Where it shows the names of the fields they concern.
    pub(super) error_field_path: Option<Path>,
    /// Tried in order; an operation's own come before those of `defaults`.
    pub(super) response_filters: Vec<ResponseFilter>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) enum ErrorHandlerType {
    DefaultErrorHandler,
}

/// Matches when every condition given holds: the status is listed, a code of the answer is
/// listed, a field named in the answer is listed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ResponseFilter {
    #[serde(rename = "type")]
    pub(super) _type: Option<ResponseFilterType>,
    pub(super) http_codes: Vec<u16>,
    pub(super) error_codes: Vec<String>,
    pub(super) error_fields: Vec<String>,
    pub(super) outcome: Option<Outcome>,
    pub(super) action: Option<Action>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) enum ResponseFilterType {
    HttpResponseFilter,
}

/// What the engine does itself before it reports the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Action {
    Fail,
    RefreshTokenThenRetry,
}
