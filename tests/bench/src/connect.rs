//! What a run has on the servers: databases and queues named after it, so that two runs do not
//! disturb each other, and removed at its end.

use std::time::{SystemTime, UNIX_EPOCH};

use lapin::{Connection as RabbitConnection, ConnectionProperties, options::QueueDeleteOptions};
use sluice_core::{
    QueueClass,
    message::{QueueKind, QueueName},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{Failure, Outcome};

/// The product's own source and target connections.
pub const SOURCE: &str = "source";
pub const TARGET: &str = "target";

/// The name of a run; lower-case letters, digits and `_`.
#[derive(Debug, Clone)]
pub struct RunName(String);

impl std::str::FromStr for RunName {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        match !text.is_empty() && text.chars().all(sound) {
            true => Ok(Self(text.to_owned())),
            false => Err("a run's name has lower-case letters, digits and _ only".into()),
        }
    }
}

impl std::fmt::Display for RunName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who uses a database.
#[derive(Debug, Clone, Copy)]
pub enum User {
    Product,
    Floor,
    Script,
}

impl RunName {
    /// One that no other run has.
    pub fn unique() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = now.map_or(0, |time| time.as_millis());
        Self(format!("sluice_bench_{}_{millis}", std::process::id()))
    }

    /// The product's organization.
    pub fn organization(&self) -> String {
        self.0.replace('_', "-")
    }

    /// The product's queue of one kind.
    pub fn product_queue(&self, kind: QueueKind, connection: &str) -> QueueName {
        QueueName {
            kind,
            organization: self.organization(),
            connection: connection.to_owned(),
        }
    }

    /// The queue of the floor or of the scripts.
    pub fn plain_queue(&self, user: User) -> String {
        format!("bench.{}", self.database(user))
    }

    fn database(&self, user: User) -> String {
        match user {
            User::Product => self.0.clone(),
            User::Floor => format!("{}_floor", self.0),
            User::Script => format!("{}_script", self.0),
        }
    }

    fn queues(&self) -> impl Iterator<Item = String> {
        let of_class = |class| {
            [
                self.product_queue(QueueKind::Pull(class), SOURCE),
                self.product_queue(QueueKind::Push(class), TARGET),
            ]
        };
        let work = QueueClass::ALL.into_iter().flat_map(of_class);
        let dead = [SOURCE, TARGET].map(|name| self.product_queue(QueueKind::Dead, name));
        let plain = [User::Floor, User::Script].map(|user| self.plain_queue(user));
        work.chain(dead).map(|queue| queue.to_string()).chain(plain)
    }
}

/// The servers a part works on.
#[derive(Debug, Clone)]
pub struct Servers {
    pub postgres: String,
    pub mongodb: String,
    pub mongodb_database: String,
    pub rabbitmq: String,
}

impl Servers {
    /// From the SLUICE_TEST_* variables, with one user's database.
    pub fn of(run: &RunName, user: User) -> Outcome<Self> {
        let server = server("SLUICE_TEST_POSTGRES_URL")?;
        let (base, _) = server
            .rsplit_once('/')
            .ok_or("SLUICE_TEST_POSTGRES_URL names no database")?;
        let name = run.database(user);
        Ok(Self {
            postgres: format!("{base}/{name}"),
            mongodb: self::server("SLUICE_TEST_MONGODB_URL")?,
            mongodb_database: name,
            rabbitmq: self::server("SLUICE_TEST_RABBITMQ_URL")?,
        })
    }

    /// Empty databases, whatever was there.
    pub async fn reset(run: &RunName, user: User) -> Outcome<Self> {
        let servers = Self::of(run, user)?;
        drop_databases(run, user).await?;
        execute(format!("create database {}", run.database(user))).await?;
        Ok(servers)
    }
}

/// Removes everything of a run.
pub async fn remove(run: &RunName) -> Outcome {
    for user in [User::Product, User::Floor, User::Script] {
        drop_databases(run, user).await?;
    }
    let url = server("SLUICE_TEST_RABBITMQ_URL")?;
    let connection = RabbitConnection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for queue in run.queues() {
        channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn drop_databases(run: &RunName, user: User) -> Outcome {
    let name = run.database(user);
    execute(format!("drop database if exists {name} with (force)")).await?;
    let client = mongodb::Client::with_uri_str(server("SLUICE_TEST_MONGODB_URL")?).await?;
    client.database(&name).drop().await?;
    Ok(())
}

/// The only value in a statement is a run's name, which is checked.
async fn execute(sql: String) -> Outcome {
    let mut connection = PgConnection::connect(&server("SLUICE_TEST_POSTGRES_URL")?).await?;
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(())
}

/// The URL of one server.
pub fn server(name: &str) -> Result<String, Failure> {
    std::env::var(name).map_err(|_| format!("set {name}; `cargo xtask servers` prints it").into())
}
