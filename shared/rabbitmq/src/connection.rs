//! One watched connection: made when needed, dropped on any error, made again after a random wait.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use lapin::{
    Channel, Connection, ConnectionProperties, Event,
    tcp::OwnedTLSConfig,
    uri::{AMQPScheme, AMQPUri},
};
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};

use crate::{
    RabbitOptions,
    errors::{Failure, in_time},
};

/// Bytes of a frame, unless the URL says otherwise. lapin holds 32 frames per connection and direction;
/// with the broker's 128 KiB these would be 8 MiB for messages of a few hundred bytes each.
const FRAME_MAX: u32 = 32 * 1_024;

pub(crate) struct Link {
    uri: AMQPUri,
    purpose: &'static str,
    options: Arc<RabbitOptions>,
    state: Mutex<State>,
    closed: watch::Receiver<bool>,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    /// No new try before this time.
    not_before: Option<Instant>,
    last_failure: Option<Instant>,
}

impl Link {
    pub(crate) fn new(
        uri: &AMQPUri,
        purpose: &'static str,
        options: Arc<RabbitOptions>,
        closed: watch::Receiver<bool>,
    ) -> Self {
        let mut uri = uri.clone();
        let heartbeat = options.heartbeat.as_secs().clamp(1, u16::MAX.into());
        uri.query.heartbeat = Some(u16::try_from(heartbeat).unwrap_or(u16::MAX));
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        Self {
            uri,
            purpose,
            options,
            state: Mutex::default(),
            closed,
        }
    }

    /// A channel of the connection, which is made first when there is none.
    pub(crate) async fn channel(&self) -> Result<Channel, Failure> {
        let connection = self.connection().await?;
        in_time(self.options.answer_timeout, connection.create_channel()).await
    }

    /// Whether the broker asked this connection to publish nothing.
    pub(crate) async fn blocked(&self) -> bool {
        let state = self.state.lock().await;
        let connection = state.connection.as_ref();
        connection.is_some_and(|connection| connection.status().blocked())
    }

    async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        let mut closed = self.closed.clone();
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(Failure::Closed),
            connection = self.connect() => connection,
        }
    }

    async fn connect(&self) -> Result<Arc<Connection>, Failure> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection {
            if connection.status().connected() {
                return Ok(connection.clone());
            }
            tracing::warn!(
                broker.connection = self.purpose,
                "connection to the broker lost"
            );
            state.connection = None;
            state.not_before = Some(Instant::now() + pause(&self.options));
        }
        // Those who waited for the same try share its failure, else they would queue up here.
        if state.last_failure.is_some_and(|time| time > asked) {
            return Err(Failure::Shared);
        }
        if let Some(time) = state.not_before {
            // Sat out here, so that callers hardly notice one lost connection.
            tokio::time::sleep_until(time).await;
        }
        match in_time(self.options.connect_timeout, self.open()).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                self.watch(&connection);
                state.connection = Some(connection.clone());
                state.not_before = None;
                Ok(connection)
            }
            Err(failure) => {
                state.last_failure = Some(Instant::now());
                state.not_before = Some(Instant::now() + pause(&self.options));
                Err(failure)
            }
        }
    }

    async fn open(&self) -> lapin::Result<Connection> {
        let name = format!("{} {}", self.options.name, self.purpose);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let tls = OwnedTLSConfig {
            identity: None,
            cert_chain: match self.uri.scheme {
                AMQPScheme::AMQPS => self.options.ca_chain.clone(),
                AMQPScheme::AMQP => None,
            },
        };
        let runtime = lapin::runtime::default_runtime()?;
        Connection::connect_uri_with_config(self.uri.clone(), properties, tls, runtime).await
    }

    /// Tells operators when the broker blocks and unblocks us.
    fn watch(&self, connection: &Connection) {
        let mut events = Box::pin(connection.events_listener());
        let purpose = self.purpose;
        tracing::info!(broker.connection = purpose, "connected to the broker");
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => {
                        tracing::warn!(
                            broker.connection = purpose,
                            reason,
                            "blocked by the broker"
                        );
                    }
                    Event::ConnectionUnblocked => {
                        tracing::info!(broker.connection = purpose, "unblocked by the broker");
                    }
                    Event::Error(_) => return,
                    _ => {}
                }
            }
        });
    }

    /// After the `closed` signal was given.
    pub(crate) async fn close(&self) {
        let connection = self.state.lock().await.connection.take();
        if let Some(connection) = connection {
            let closing = connection.close(200, "closed by its owner".into());
            // What is not answered in time is closed by dropping it.
            let _ = in_time(self.options.answer_timeout, closing).await;
        }
    }
}

/// A random wait within the bounds, so that a fleet does not come back all at once.
pub(crate) fn pause(options: &RabbitOptions) -> Duration {
    let (from, to) = (*options.reconnect.start(), *options.reconnect.end());
    from + to.saturating_sub(from).mul_f64(rand::random::<f64>())
}

/// Closes a channel without making the caller wait. Its unsettled messages go back to the queue.
pub(crate) fn close_later(channel: Channel) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            // A channel that is gone already is as good.
            let _ = channel.close(200, "done".into()).await;
        });
    }
}
