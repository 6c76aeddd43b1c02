//! Tokens that the whole fleet shares: one process renews, the others wait and use the result.
//!
//! What is renewed is kept, sealed and durable, before anybody uses it: a system that gives a new
//! refresh token with each use takes the old one for theft the next time. A process that dies
//! between the system's answer and keeping loses the new one, and only then a person has to log in
//! again. The turn to renew, which it leaves behind, tells the next one what has happened.
//!
//! A refusal of the refresh token is kept too: it counts for all, so that nobody asks again with
//! what was refused before an hour is over or the settings hold other credentials.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sluice_core::{ConnectionId, Error, ErrorClass, Hash, Result};
use sluice_runtime::{
    failpoint::{self, Point},
    seal::SealKeys,
};
use sluice_store::{
    CredentialStore, FleetStore,
    credential::{CredentialName, Kept, Turn},
};
use tokio::time::Instant;

/// A turn lasts this much longer than a call may.
const MARGIN: Duration = Duration::from_secs(30);
/// Time between two looks whether somebody else is done.
const LOOK: Duration = Duration::from_millis(100);
/// Nobody waits longer in one go.
const PATIENCE: Duration = Duration::from_secs(20);
/// After this a refused refresh token is tried once more: systems err too.
const REFUSED_FOR: TimeDelta = TimeDelta::hours(1);
/// Tries to keep a renewed token, and the time between them.
const TRIES: u32 = 60;
const AGAIN: Duration = Duration::from_secs(1);

/// What the processes of a fleet share about connections.
#[derive(Clone)]
pub struct Fleet {
    pub limits: Arc<dyn FleetStore>,
    /// `None` when no key is configured: then each process has tokens of its own.
    pub vault: Option<Vault>,
}

/// The place for credentials that change while they are used.
#[derive(Clone)]
pub struct Vault {
    store: Arc<dyn CredentialStore>,
    keys: SealKeys,
    /// Names this process.
    owner: Arc<str>,
}

/// The part of the vault that belongs to one connection.
#[derive(Clone)]
pub struct Credentials {
    vault: Vault,
    connection: ConnectionId,
    lease: Duration,
}

/// A token, and what renews it.
#[derive(Clone)]
pub struct SharedToken {
    pub value: SecretString,
    pub until: DateTime<Utc>,
    pub refresh_token: Option<SecretString>,
}

/// A token and its number, which grows with each renewal.
pub type Numbered = (SharedToken, i64);

/// What came of asking for a newer token.
pub enum Begun {
    Found(Numbered),
    /// The caller is to renew.
    Mine(Renewal),
}

/// The turn to renew. Ends with a result, with [`Renewal::refused`], with [`Renewal::give_up`], or
/// after its lease.
pub struct Renewal {
    credentials: Credentials,
    name: CredentialName,
    of: Hash,
    generation: i64,
    kept: Option<SharedToken>,
    /// The one before left its turn without an end.
    abandoned: bool,
}

/// As it is sealed.
#[derive(Serialize, Deserialize)]
struct Stored {
    of: Hash,
    value: String,
    until: DateTime<Utc>,
    refresh_token: Option<String>,
    #[serde(default)]
    refused: Option<Refusal>,
}

/// The system took the refresh token no more.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Refusal {
    at: DateTime<Utc>,
    /// Because one that took its place was lost, as far as anybody can tell.
    lost: bool,
}

impl Refusal {
    fn error(self) -> Error {
        let error = if self.lost {
            Error::new(
                ErrorClass::Auth,
                "refresh_token_lost",
                "a process ended while it renewed the token: the system has given a new refresh \
                 token that nobody kept, and takes the old one no more",
            )
        } else {
            Error::new(
                ErrorClass::Auth,
                "refresh_token_refused",
                "the refresh token was refused: it is invalid, expired or used already",
            )
        };
        error.hint(
            "log in to the system anew and put the new refresh token into the connection's \
             settings; it is not called with the old one meanwhile, but once an hour",
        )
    }
}

impl Vault {
    pub fn new(store: Arc<dyn CredentialStore>, keys: SealKeys) -> Self {
        let owner = uuid::Uuid::new_v4().simple().to_string();
        Self {
            store,
            keys,
            owner: owner.into(),
        }
    }

    /// `call_lasts` is the longest a call takes.
    pub fn of(&self, connection: ConnectionId, call_lasts: Duration) -> Credentials {
        Credentials {
            vault: self.clone(),
            connection,
            lease: call_lasts + MARGIN,
        }
    }
}

impl Credentials {
    /// A good token with a number above `known`, or the turn to renew it. Waits while somebody
    /// else renews.
    ///
    /// `name` tells credentials of the connection apart; `of` stands for what is configured: after
    /// a change there, what was kept before counts no more.
    ///
    /// # Errors
    /// `token_renewal_waits` (RateLimit: costs no attempt) when somebody else takes long;
    /// `refresh_token_refused` and `refresh_token_lost` without a call; what the store and [`SealKeys::open`] fail with.
    pub async fn begin(&self, name: Hash, of: Hash, known: i64) -> Result<Begun> {
        let name = CredentialName {
            connection: self.connection,
            name: name.to_string(),
        };
        let until = Instant::now() + PATIENCE;
        loop {
            let (store, owner) = (&self.vault.store, &self.vault.owner);
            let (kept, turn) = store.begin(&name, owner, self.lease).await?;
            let generation = kept.generation;
            let mine = matches!(turn, Turn::Mine { .. });
            let opened = match self.open(&name, of, kept) {
                Ok(opened) => opened,
                Err(error) => {
                    if mine {
                        store.give_up(&name, owner).await?;
                    }
                    return Err(error);
                }
            };
            let good = |token: &SharedToken| generation > known && token.until > Utc::now();
            match (opened, turn) {
                (Some(token), _) if good(&token) => {
                    if mine {
                        store.give_up(&name, owner).await?;
                    }
                    return Ok(Begun::Found((token, generation)));
                }
                (kept, Turn::Mine { abandoned }) => {
                    return Ok(Begun::Mine(Renewal {
                        credentials: self.clone(),
                        name,
                        of,
                        generation,
                        kept,
                        abandoned,
                    }));
                }
                (_, Turn::Taken(_)) if Instant::now() >= until => {
                    return Err(Error::new(
                        ErrorClass::RateLimit,
                        "token_renewal_waits",
                        "another process is renewing the token",
                    )
                    .retry_after(Duration::from_secs(2)));
                }
                (_, Turn::Taken(wait)) => {
                    tokio::time::sleep(wait.clamp(Duration::from_millis(1), LOOK)).await;
                }
            }
        }
    }

    fn open(&self, name: &CredentialName, of: Hash, kept: Kept) -> Result<Option<SharedToken>> {
        let Some(sealed) = kept.sealed else {
            return Ok(None);
        };
        let opened = self.vault.keys.open(&place(name), &sealed)?;
        let stored: Stored = serde_json::from_slice(&opened).map_err(|_| {
            Error::internal("credentials_unreadable", "kept credentials are unreadable")
        })?;
        if stored.of != of {
            return Ok(None);
        }
        match stored.refused {
            Some(refusal) if refusal.at + REFUSED_FOR > Utc::now() => Err(refusal.error()),
            _ => Ok(Some(SharedToken {
                value: stored.value.into(),
                until: stored.until,
                refresh_token: stored.refresh_token.map(SecretString::from),
            })),
        }
    }
}

impl Renewal {
    /// What was kept last, to renew it with; it may be over.
    pub fn kept(&self) -> Option<&SharedToken> {
        self.kept.as_ref()
    }

    /// How long renewing may take.
    pub fn lasts(&self) -> Duration {
        self.credentials.lease - MARGIN / 2
    }

    /// Keeps what was renewed; only then it may be used. When somebody else was faster, that one's
    /// token is returned.
    ///
    /// # Errors
    /// `credentials_not_kept` when the store is away for a minute; `credentials_superseded`
    /// (RateLimit) when somebody else's is over already.
    pub async fn keep(self, token: SharedToken) -> Result<Numbered> {
        failpoint::reach(Point::TokenRenewed).await;
        let vault = self.credentials.vault.clone();
        let sealed = self.sealed(&token, None)?;
        let mut tries = 1;
        let kept = loop {
            match vault.store.keep(&self.name, self.generation, &sealed).await {
                Ok(kept) => break kept,
                Err(error) if tries < TRIES => {
                    tracing::warn!(error = error.chain(), "a renewed token cannot be kept yet");
                    tries += 1;
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => {
                    return Err(Error::internal(
                        "credentials_not_kept",
                        "a renewed token could not be kept, so it is not used",
                    )
                    .caused_by(error));
                }
            }
        };
        if kept {
            failpoint::reach(Point::TokenKept).await;
            return Ok((token, self.generation + 1));
        }
        // An answer that got lost looks like somebody else's result, and is our own.
        let (kept, turn) = vault
            .store
            .begin(&self.name, &vault.owner, self.credentials.lease)
            .await?;
        let generation = kept.generation;
        let found = self.credentials.open(&self.name, self.of, kept);
        if matches!(turn, Turn::Mine { .. }) {
            self.give_up().await;
        }
        let found = found?.filter(|token| token.until > Utc::now());
        found.map(|token| (token, generation)).ok_or_else(|| {
            Error::new(
                ErrorClass::RateLimit,
                "credentials_superseded",
                "another process renewed the token meanwhile",
            )
            .retry_after(AGAIN)
        })
    }

    /// Keeps that the system takes the refresh token no more, so that nobody else asks in vain;
    /// says so with what is known of the reason.
    pub async fn refused(self) -> Error {
        let refusal = Refusal {
            at: Utc::now(),
            lost: self.abandoned,
        };
        // Tried once more after a while, as it is.
        let token = self.kept.clone().unwrap_or_else(|| SharedToken {
            value: String::new().into(),
            until: refusal.at,
            refresh_token: None,
        });
        let token = SharedToken {
            until: refusal.at,
            ..token
        };
        let kept = match self.sealed(&token, Some(refusal)) {
            Ok(sealed) => {
                let store = &self.credentials.vault.store;
                store.keep(&self.name, self.generation, &sealed).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::warn!(
                error = error.chain(),
                "a refused refresh token is not noted"
            );
        }
        self.give_up().await;
        refusal.error()
    }

    fn sealed(&self, token: &SharedToken, refused: Option<Refusal>) -> Result<Vec<u8>> {
        let secret = |text: &SecretString| text.expose_secret().to_owned();
        let stored = Stored {
            of: self.of,
            value: secret(&token.value),
            until: token.until,
            refresh_token: token.refresh_token.as_ref().map(secret),
            refused,
        };
        let bytes = serde_json::to_vec(&stored).map_err(|_| {
            Error::internal("credentials_unwritable", "credentials cannot be written")
        })?;
        self.credentials.vault.keys.seal(&place(&self.name), &bytes)
    }

    /// Leaves it to others, since renewing failed.
    pub async fn give_up(self) {
        let vault = &self.credentials.vault;
        if let Err(error) = vault.store.give_up(&self.name, &vault.owner).await {
            // The turn comes back when its lease is over.
            tracing::debug!(error = error.chain(), "a turn cannot be given back");
        }
    }
}

/// What is sealed for one name opens under no other.
fn place(name: &CredentialName) -> Vec<u8> {
    format!("{}/{}", name.connection.0, name.name).into_bytes()
}

#[cfg(test)]
mod tests;
