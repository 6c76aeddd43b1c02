//! One queue in memory. Its lock is held for moments, never over an await.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sluice_store::broker::{Outgoing, Published, QueueDepth};
use tokio::sync::Notify;

pub(super) struct Message {
    pub(super) body: Vec<u8>,
    pub(super) traceparent: Option<String>,
    /// Was delivered before and came back.
    pub(super) redelivered: bool,
}

impl From<&Outgoing> for Message {
    fn from(outgoing: &Outgoing) -> Self {
        Self {
            body: outgoing.body.clone(),
            traceparent: outgoing.traceparent.clone(),
            redelivered: false,
        }
    }
}

pub(super) struct Queue {
    state: Mutex<State>,
    /// Wakes consumers when there is something to take, or nothing more to come.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Message>,
    unsettled: usize,
    consumers: u64,
    declared: bool,
    closed: bool,
}

/// What [`Queue::take`] found.
pub(super) enum Taken {
    Messages(Vec<Message>),
    Nothing,
    Closed,
}

impl Queue {
    pub(super) fn new(closed: bool) -> Self {
        Self {
            state: Mutex::new(State {
                closed,
                ..State::default()
            }),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn declare(&self) {
        self.lock().declared = true;
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_waiters();
    }

    pub(super) fn push(&self, message: Message, capacity: usize) -> Published {
        let mut state = self.lock();
        if !state.declared {
            return Published::Unroutable;
        }
        if state.closed || state.ready.len() + state.unsettled >= capacity {
            return Published::Unknown;
        }
        state.ready.push_back(message);
        drop(state);
        self.changed.notify_one();
        Published::Confirmed
    }

    /// Takes up to `max` messages, which are unsettled from then on.
    pub(super) fn take(&self, max: usize) -> Taken {
        let mut state = self.lock();
        if state.closed {
            return Taken::Closed;
        }
        let count = max.min(state.ready.len());
        if count == 0 {
            return Taken::Nothing;
        }
        state.unsettled += count;
        let messages = state.ready.drain(..count).collect();
        let more = !state.ready.is_empty();
        drop(state);
        if more {
            // This consumer used up one wake-up and left something for another.
            self.changed.notify_one();
        }
        Taken::Messages(messages)
    }

    pub(super) fn settle(&self, count: usize) {
        let mut state = self.lock();
        state.unsettled = state.unsettled.saturating_sub(count);
    }

    /// Puts messages back to the front, in the order in which they were taken.
    pub(super) fn give_back(&self, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.unsettled = state.unsettled.saturating_sub(messages.len());
        for message in messages.into_iter().rev() {
            state.ready.push_front(Message {
                redelivered: true,
                ..message
            });
        }
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn joined(&self) {
        self.lock().consumers += 1;
    }

    pub(super) fn left(&self) {
        let mut state = self.lock();
        state.consumers = state.consumers.saturating_sub(1);
    }

    pub(super) fn depth(&self) -> QueueDepth {
        let state = self.lock();
        match state.declared {
            true => QueueDepth {
                ready: state.ready.len() as u64,
                consumers: state.consumers,
            },
            false => QueueDepth::default(),
        }
    }

    pub(super) fn purge(&self) -> u64 {
        let mut state = self.lock();
        let count = state.ready.len() as u64;
        state.ready.clear();
        count
    }
}
