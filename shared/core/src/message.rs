//! Broker messages: small references to tasks, never payloads.
//!
//! A message is a CloudEvents 1.0 document in structured JSON mode, so that programs no one here
//! wrote can consume it. Losing one loses nothing: the task row is the truth.

use serde::{Deserialize, Serialize};

use crate::{
    ConnectionId, Error, OrganizationId, Priority, QueueClass, TaskId, Timestamp, task::TaskKind,
};

/// Where a task's reference travels: the queue is per kind, connection and class.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName {
    pub kind: QueueKind,
    /// Slug of the organization.
    pub organization: String,
    /// Name of the connection within the organization.
    pub connection: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QueueKind {
    Pull(QueueClass),
    Push(QueueClass),
    /// References to dead letters, for people who look at the broker's own screens.
    Dead,
}

impl QueueKind {
    pub fn work(kind: TaskKind, class: QueueClass) -> Self {
        match kind {
            TaskKind::Pull => Self::Pull(class),
            TaskKind::Push => Self::Push(class),
        }
    }
}

impl std::fmt::Display for QueueName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            organization,
            connection,
        } = self;
        match kind {
            QueueKind::Pull(class) => write!(
                f,
                "sluice.pull.{organization}.{connection}.{}",
                class.as_str()
            ),
            QueueKind::Push(class) => write!(
                f,
                "sluice.push.{organization}.{connection}.{}",
                class.as_str()
            ),
            QueueKind::Dead => write!(f, "sluice.dead.{organization}.{connection}"),
        }
    }
}

/// A reference to a task that is ready for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRef {
    pub task_id: TaskId,
    pub kind: TaskKind,
    pub organization_id: OrganizationId,
    pub connection_id: ConnectionId,
    pub priority: Priority,
    /// W3C `traceparent` of the work that made the task necessary.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
    /// Set in the references of dead letters, and in no other: a message on a work queue that has
    /// it was moved there by somebody, who wants the letter replayed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub dead_letter: Option<DeadLetterRef>,
}

/// Names one death of a task. A letter that is replayed and dies again is the same letter with
/// another time, so that an old reference is told from a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterRef {
    pub id: i64,
    pub died_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct CloudEvent<'a> {
    specversion: &'a str,
    id: String,
    source: String,
    r#type: String,
    subject: String,
    time: Timestamp,
    datacontenttype: &'a str,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    traceparent: Option<String>,
    data: TaskRef,
}

impl TaskRef {
    /// The message body. `now` becomes the event's time.
    pub fn to_json(&self, now: Timestamp) -> Vec<u8> {
        let event = CloudEvent {
            specversion: "1.0",
            id: format!("{}-{}", self.task_id, now.timestamp_micros()),
            source: format!("/organizations/{}", self.organization_id),
            r#type: match self.dead_letter {
                None => format!("dev.sluice.{}.requested.v1", self.kind.as_str()),
                Some(_) => format!("dev.sluice.{}.dead.v1", self.kind.as_str()),
            },
            subject: format!("tasks/{}", self.task_id),
            time: now,
            datacontenttype: "application/json",
            traceparent: self.traceparent.clone(),
            data: Self {
                traceparent: None,
                ..self.clone()
            },
        };
        serde_json::to_vec(&event).unwrap_or_default()
    }

    /// Reads a message body; unknown attributes are ignored.
    ///
    /// # Errors
    /// `message_unreadable` when it is no task reference of a version known here.
    pub fn from_json(body: &[u8]) -> Result<Self, Error> {
        let unreadable = |why: String| {
            Error::validation(
                "message_unreadable",
                format!("broker message is no task reference: {why}"),
            )
        };
        let event: CloudEvent<'_> = serde_json::from_slice(body)
            .map_err(|error| unreadable(format!("{:?} error", error.classify())))?;
        if event.specversion != "1.0" || !event.r#type.ends_with(".v1") {
            return Err(unreadable("unknown version".into()));
        }
        Ok(Self {
            traceparent: event.traceparent,
            ..event.data
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_survives_the_wire_and_rubbish_is_refused() {
        let reference = TaskRef {
            task_id: TaskId(7),
            kind: TaskKind::Push,
            organization_id: OrganizationId(1),
            connection_id: ConnectionId(2),
            priority: Priority::DEFAULT,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            dead_letter: None,
        };
        let body = reference.to_json(Timestamp::UNIX_EPOCH);
        assert!(body.len() < 512, "{} bytes", body.len());
        assert_eq!(TaskRef::from_json(&body).unwrap(), reference);
        let dead = TaskRef {
            dead_letter: Some(DeadLetterRef {
                id: 12,
                died_at: Timestamp::from_timestamp_micros(1_763_697_600_123_456).unwrap(),
            }),
            ..reference
        };
        let body = dead.to_json(Timestamp::UNIX_EPOCH);
        assert!(body.len() < 600, "{} bytes", body.len());
        assert_eq!(TaskRef::from_json(&body).unwrap(), dead);
        for bad in [&b""[..], b"{}", b"[1]", b"{\"specversion\":\"2.0\"}"] {
            assert_eq!(
                TaskRef::from_json(bad).unwrap_err().code(),
                "message_unreadable"
            );
        }
    }
}
