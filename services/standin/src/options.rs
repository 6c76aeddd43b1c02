//! What a stand-in is started with.

use chrono::{NaiveDate, NaiveDateTime, TimeDelta, Utc};

/// Which system to stand in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Yardi Voyager, SOAP interfaces: a source.
    Yardi,
    /// ONE, token and GraphQL: a target.
    One,
    /// Lessen360, signed REST and webhooks: a target.
    Lessen360,
}

impl Kind {
    /// The name used on the command line and in ledgers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yardi => "yardi",
            Self::One => "one",
            Self::Lessen360 => "lessen360",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Yardi, Self::One, Self::Lessen360]
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("no stand-in named {text:?}: yardi, one or lessen360"))
    }
}

/// How a stand-in behaves. [`Options::new`] gives the documented defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which system.
    pub kind: Kind,
    /// Yardi: about how many records (properties, units, residents with their occupants,
    /// service requests, attachments together).
    pub records: usize,
    /// Yardi: over how many properties. The second holds one record of each kind, the last
    /// is empty (from four properties on).
    pub properties: usize,
    /// Everything invented follows from this number and [`Self::epoch`].
    pub seed: u64,
    /// The day before which the seeded data ends, in server-local time. Default: today.
    pub epoch: NaiveDate,
    /// The customer's server clock against UTC, in minutes. Default 0.
    pub utc_offset_minutes: i32,
    /// Calls allowed in any 60 seconds, token calls included. `None` means no limit.
    pub limit_per_minute: Option<u32>,
    /// How many calls the ledger keeps; older ones only count. 0 keeps counters alone, the
    /// mode for benchmarks.
    pub ledger_entries: usize,
    /// What Yardi callers must present, for every interface without an entry in
    /// [`Self::yardi_interfaces`].
    pub yardi: YardiCredentials,
    /// Other Yardi credentials for single interfaces, by lower-case interface name such as
    /// `itfresidentdata`.
    pub yardi_interfaces: Vec<(String, YardiCredentials)>,
    /// What ONE callers must present.
    pub one: OneCredentials,
    /// How long a token of ONE is good for, in seconds.
    pub token_seconds: u64,
    /// What Lessen360 callers must sign with.
    pub lessen360: Lessen360Credentials,
}

impl Options {
    /// The defaults for one system: 5,000 records over 12 properties, seed 1, limits of
    /// 60 (ONE) and 30 (Lessen360) calls a minute, none for Yardi.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            records: 5_000,
            properties: 12,
            seed: 1,
            epoch: Utc::now().date_naive(),
            utc_offset_minutes: 0,
            limit_per_minute: match kind {
                Kind::Yardi => None,
                Kind::One => Some(60),
                Kind::Lessen360 => Some(30),
            },
            ledger_entries: 20_000,
            yardi: YardiCredentials::default(),
            yardi_interfaces: Vec::new(),
            one: OneCredentials::default(),
            token_seconds: 3_600,
            lessen360: Lessen360Credentials::default(),
        }
    }

    /// The customer's server clock, in whole seconds.
    pub fn server_now(&self) -> NaiveDateTime {
        let now = Utc::now() + TimeDelta::minutes(i64::from(self.utc_offset_minutes));
        let seconds = now.timestamp();
        chrono::DateTime::from_timestamp(seconds, 0)
            .unwrap_or(now)
            .naive_utc()
    }
}

/// The seven credential elements of a Yardi call, without the platform, which must be
/// `SQL Server` or `SQL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YardiCredentials {
    /// `UserName`.
    pub user: String,
    /// `Password`.
    pub password: String,
    /// `ServerName`.
    pub server: String,
    /// `Database` (`DataBase` in document imports).
    pub database: String,
    /// `InterfaceEntity`, the vendor name.
    pub entity: String,
    /// `InterfaceLicense`.
    pub license: String,
}

impl Default for YardiCredentials {
    fn default() -> Self {
        Self {
            user: "svc_sluice".into(),
            password: "yardi-standin-password".into(),
            server: "standin_live".into(),
            database: "standin_live".into(),
            entity: "Sluice".into(),
            license: "c3RhbmQtaW4gbGljZW5jZSBmb3IgU2x1aWNlLCBub3QgYSByZWFsIG9uZQ==".into(),
        }
    }
}

/// Client credentials for ONE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneCredentials {
    /// `client_id`.
    pub client_id: String,
    /// `client_secret`.
    pub client_secret: String,
}

impl Default for OneCredentials {
    fn default() -> Self {
        Self {
            client_id: "sluice".into(),
            client_secret: "one-standin-secret".into(),
        }
    }
}

/// Application id and secret for Lessen360; the same pair signs its webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lessen360Credentials {
    /// The application id.
    pub app_id: String,
    /// The shared secret.
    pub secret: String,
}

impl Default for Lessen360Credentials {
    fn default() -> Self {
        Self {
            app_id: "sluice-app".into(),
            secret: "lessen360-standin-secret".into(),
        }
    }
}
