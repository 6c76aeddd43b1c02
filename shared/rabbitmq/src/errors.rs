//! Library errors as Sluice's. The library's texts are left out but for the broker's own answers,
//! which name queues and vhosts, never credentials.

use std::time::Duration;

use lapin::{
    ErrorKind,
    protocol::{AMQPErrorKind, AMQPSoftError},
};
use sluice_core::{Error, ErrorClass};

/// What can go wrong between us and the broker.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    Lapin(lapin::Error),
    /// No answer in time.
    Silent,
    /// The broker blocks publishers: it is short of memory or disk.
    Blocked,
    /// Somebody else's try to connect failed while this one waited for it.
    Shared,
    Closed,
}

impl From<lapin::Error> for Failure {
    fn from(error: lapin::Error) -> Self {
        Self::Lapin(error)
    }
}

impl Failure {
    fn soft(&self) -> Option<AMQPSoftError> {
        let Self::Lapin(error) = self else {
            return None;
        };
        let ErrorKind::ProtocolError(error) = error.kind() else {
            return None;
        };
        match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        }
    }

    /// 404: no such queue or exchange.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self.soft(), Some(AMQPSoftError::NOTFOUND))
    }

    /// 406: it exists with other arguments.
    pub(crate) fn is_other_arguments(&self) -> bool {
        matches!(self.soft(), Some(AMQPSoftError::PRECONDITIONFAILED))
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let network = |code, message: &str| Error::new(ErrorClass::Network, code, message);
        let unreachable = |why: String| {
            network(
                "broker_unreachable",
                &format!("RabbitMQ cannot be reached: {why}"),
            )
        };
        let error = match failure {
            Failure::Silent => return unreachable("no answer in time".into()),
            Failure::Shared => return unreachable("the last try to connect failed".into()),
            Failure::Closed => {
                return network("broker_closed", "the broker's connections were closed");
            }
            Failure::Blocked => {
                return network("broker_blocked", "RabbitMQ takes no messages at the moment")
                    .hint("look for a memory or disk alarm on the broker");
            }
            Failure::Lapin(error) => error,
        };
        match error.kind() {
            ErrorKind::IOError(io) => unreachable(io.kind().to_string()),
            ErrorKind::MissingHeartbeatError => unreachable("its heartbeat stopped".into()),
            ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => {
                unreachable("the connection was lost".into())
            }
            ErrorKind::ProtocolError(error) => match error.get_id() {
                403 | 530 => Error::new(
                    ErrorClass::Auth,
                    "broker_refused_login",
                    "RabbitMQ refused the user, the vhost or the operation",
                )
                .hint("check user, password, vhost and permissions of the broker's URL"),
                320 => unreachable("it closed the connection".into()),
                id => Error::internal(
                    "broker_failed",
                    format!(
                        "RabbitMQ refused an operation: {} ({id})",
                        error.get_message()
                    ),
                ),
            },
            _ => Error::internal("broker_failed", "the RabbitMQ client failed"),
        }
    }
}

/// Bounds a wait for the broker, which may hang (a frozen broker, a blocked connection).
pub(crate) async fn in_time<T>(
    limit: Duration,
    answer: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::Silent),
    }
}
