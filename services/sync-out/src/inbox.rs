//! References at hand, by urgency, and the way back to the broker for each.
//!
//! One task per class owns its consumer: it takes messages in, and settles them when told to.
//! What is at hand here is not claimed yet; the prefetch bounds it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sluice_core::{
    ConnectionId, QueueClass, Result, TaskId,
    message::{DeadLetterRef, QueueName, TaskRef},
};
use sluice_runtime::{
    Shutdown,
    pace::{Again, Pace},
};
use sluice_store::{Broker, TaskStore, broker::Delivery};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use crate::{moved, picker::Picker};

/// Messages taken over in one step.
const AT_ONCE: usize = 500;

/// Proof of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    class: QueueClass,
    /// Which of the class's consumers received it: a tag means nothing to a later one.
    consumer: u64,
    tag: u64,
}

/// A reference at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) task_id: TaskId,
    pub(crate) ticket: Ticket,
}

/// References at hand, by class.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    classes: Mutex<[VecDeque<Ready>; 3]>,
    arrived: Notify,
}

impl Inbox {
    /// Waits until something is at hand, and then for more, until there are `enough` or the time
    /// is over. Cancel-safe.
    pub(crate) async fn wait(&self, enough: usize, linger: Duration) {
        while self.len() == 0 {
            let arrived = self.arrived.notified();
            if self.len() > 0 {
                break;
            }
            arrived.await;
        }
        let until = Instant::now() + linger;
        while self.len() < enough {
            let arrived = self.arrived.notified();
            if self.len() >= enough || tokio::time::timeout_at(until, arrived).await.is_err() {
                return;
            }
        }
    }

    /// Takes at most `most` references, each of the class whose turn it is (promise O8).
    pub(crate) fn pick(&self, picker: &mut Picker, most: usize) -> Vec<Ready> {
        let mut classes = self.classes();
        let mut picked = Vec::with_capacity(most);
        while picked.len() < most {
            let class = picker.pick(|class| !classes[class as usize].is_empty());
            let next = class.and_then(|class| classes[class as usize].pop_front());
            match next {
                Some(ready) => picked.push(ready),
                None => break,
            }
        }
        picked
    }

    /// Empties the inbox, for giving everything back.
    pub(crate) fn drain(&self) -> Vec<Ticket> {
        self.classes()
            .iter_mut()
            .flat_map(|class| class.drain(..))
            .map(|ready| ready.ticket)
            .collect()
    }

    fn put(&self, class: QueueClass, ready: impl IntoIterator<Item = Ready>) {
        self.classes()[class as usize].extend(ready);
        self.arrived.notify_waiters();
    }

    /// Forgets what a lost consumer had received: the broker delivers it again.
    fn forget(&self, class: QueueClass) {
        self.classes()[class as usize].clear();
    }

    fn len(&self) -> usize {
        self.classes().iter().map(VecDeque::len).sum()
    }

    fn classes(&self) -> MutexGuard<'_, [VecDeque<Ready>; 3]> {
        // Nothing panics while the lock is held.
        self.classes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Order {
    Ack(Vec<Ticket>),
    Release(Vec<Ticket>),
}

/// Settles messages, from anywhere.
#[derive(Clone)]
pub(crate) struct Desk {
    orders: [mpsc::UnboundedSender<Order>; 3],
}

/// Orders for one class's consumer; unbounded, but the prefetch bounds what can be ordered.
pub(crate) struct Orders(mpsc::UnboundedReceiver<Order>);

impl Desk {
    pub(crate) fn new() -> (Self, [Orders; 3]) {
        let channels = [(); 3].map(|()| mpsc::unbounded_channel());
        let [(high, a), (normal, b), (low, c)] = channels;
        (
            Self {
                orders: [high, normal, low],
            },
            [Orders(a), Orders(b), Orders(c)],
        )
    }

    /// Done with these messages for good.
    pub(crate) fn ack(&self, tickets: Vec<Ticket>) {
        self.order(tickets, Order::Ack);
    }

    /// Others may have these messages.
    pub(crate) fn release(&self, tickets: Vec<Ticket>) {
        self.order(tickets, Order::Release);
    }

    fn order(&self, tickets: Vec<Ticket>, order: impl Fn(Vec<Ticket>) -> Order) {
        for class in QueueClass::ALL {
            let of_class: Vec<_> = tickets
                .iter()
                .filter(|ticket| ticket.class == class)
                .copied()
                .collect();
            if !of_class.is_empty() {
                // A consumer that has ended took its messages back already.
                let _ = self.orders[class as usize].send(order(of_class));
            }
        }
    }
}

/// Messages that name no task to be done now, by tag.
#[derive(Default)]
struct Taken {
    unreadable: Vec<u64>,
    /// References of dead letters: somebody wants them replayed.
    moved: Vec<(u64, DeadLetterRef)>,
}

/// One class's consumer.
pub(crate) struct Intake {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) tasks: Arc<dyn TaskStore>,
    /// The target.
    pub(crate) connection: ConnectionId,
    pub(crate) queue: QueueName,
    pub(crate) class: QueueClass,
    pub(crate) prefetch: u16,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) shutdown: Shutdown,
}

impl Intake {
    /// Takes messages in until a soft stop, and settles them until nobody can order it any more.
    pub(crate) async fn run(self, mut orders: Orders) {
        let mut pace = Pace::new("pushing", &self.shutdown, Duration::from_millis(200));
        let mut consumer = 0;
        loop {
            consumer += 1;
            let outcome = self.consume(consumer, &mut orders).await;
            if orders.0.is_closed() && orders.0.is_empty() {
                return;
            }
            self.inbox.forget(self.class);
            if !pace.next(outcome.map(|()| Again::Later)).await {
                break;
            }
        }
        // Without a consumer there is nothing to settle: wait for the others to finish.
        while orders.0.recv().await.is_some() {}
    }

    /// Serves one consumer until the broker closes it or all work is done.
    async fn consume(&self, number: u64, orders: &mut Orders) -> Result<()> {
        let mut consumer = self.broker.consume(&self.queue, self.prefetch).await?;
        let mut taking = !self.shutdown.soft.is_cancelled();
        loop {
            tokio::select! {
                order = orders.0.recv() => {
                    let Some(order) = order else { return Ok(()) };
                    let (mut done, mut back) = (Vec::new(), Vec::new());
                    sort(order, number, &mut done, &mut back);
                    while let Ok(order) = orders.0.try_recv() {
                        sort(order, number, &mut done, &mut back);
                    }
                    if !done.is_empty() {
                        consumer.ack(&done).await;
                    }
                    if !back.is_empty() {
                        consumer.release(&back).await;
                    }
                }
                deliveries = consumer.next(AT_ONCE), if taking => {
                    let deliveries = deliveries?;
                    if deliveries.is_empty() {
                        return Ok(());
                    }
                    let taken = self.take_in(number, &deliveries);
                    if !taken.unreadable.is_empty() {
                        consumer.ack(&taken.unreadable).await;
                    }
                    let (tags, moved): (Vec<_>, Vec<_>) = taken.moved.into_iter().unzip();
                    if moved.is_empty() {
                        continue;
                    }
                    let tasks = &*self.tasks;
                    match moved::replay(tasks, self.connection, &moved, &self.shutdown).await {
                        true => consumer.ack(&tags).await,
                        false => consumer.release(&tags).await,
                    }
                }
                () = self.shutdown.soft.cancelled(), if taking => taking = false,
            }
        }
    }

    /// Puts references into the inbox; returns what does not belong there.
    fn take_in(&self, consumer: u64, deliveries: &[Delivery]) -> Taken {
        let mut taken = Taken::default();
        let mut ready = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            match TaskRef::from_json(&delivery.body) {
                Ok(reference) => match reference.dead_letter {
                    Some(letter) => taken.moved.push((delivery.tag, letter)),
                    None => ready.push(Ready {
                        task_id: reference.task_id,
                        ticket: Ticket {
                            class: self.class,
                            consumer,
                            tag: delivery.tag,
                        },
                    }),
                },
                Err(error) => {
                    tracing::warn!(queue = %self.queue, error = error.chain(), "message dropped");
                    taken.unreadable.push(delivery.tag);
                }
            }
        }
        self.inbox.put(self.class, ready);
        taken
    }
}

fn sort(order: Order, consumer: u64, done: &mut Vec<u64>, back: &mut Vec<u64>) {
    let (tickets, tags) = match order {
        Order::Ack(tickets) => (tickets, done),
        Order::Release(tickets) => (tickets, back),
    };
    tags.extend(
        tickets
            .into_iter()
            .filter(|ticket| ticket.consumer == consumer)
            .map(|ticket| ticket.tag),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(class: QueueClass, id: i64) -> Ready {
        Ready {
            task_id: TaskId(id),
            ticket: Ticket {
                class,
                consumer: 1,
                tag: id.unsigned_abs(),
            },
        }
    }

    /// O8: a batch is mixed by weight, and in each class the oldest go first.
    #[test]
    fn a_batch_is_mixed_by_urgency() {
        let inbox = Inbox::default();
        for class in QueueClass::ALL {
            inbox.put(class, (0..100).map(|id| ready(class, id)));
        }
        let batch = inbox.pick(&mut Picker::default(), 24);
        let ids = |class| -> Vec<i64> {
            batch
                .iter()
                .filter(|ready| ready.ticket.class == class)
                .map(|ready| ready.task_id.0)
                .collect()
        };
        assert_eq!(ids(QueueClass::High), (0..16).collect::<Vec<_>>());
        assert_eq!(ids(QueueClass::Normal), (0..6).collect::<Vec<_>>());
        assert_eq!(ids(QueueClass::Low), [0, 1]);
        assert_eq!(inbox.drain().len(), 300 - 24);
    }

    #[tokio::test]
    async fn waiting_ends_with_enough_or_with_time() {
        let inbox = Arc::new(Inbox::default());
        inbox.put(QueueClass::Low, [ready(QueueClass::Low, 1)]);
        inbox.wait(1, Duration::from_secs(3600)).await;
        inbox.wait(2, Duration::from_millis(1)).await;
        assert_eq!(inbox.len(), 1);
        let waiting = inbox.wait(2, Duration::from_secs(3600));
        let arriving = async { inbox.put(QueueClass::High, [ready(QueueClass::High, 2)]) };
        tokio::join!(waiting, arriving);
    }

    #[test]
    fn a_ticket_of_an_earlier_consumer_settles_nothing() {
        let (mut done, mut back) = (Vec::new(), Vec::new());
        let ticket = ready(QueueClass::High, 7).ticket;
        sort(Order::Ack(vec![ticket]), 2, &mut done, &mut back);
        assert!(done.is_empty());
        sort(Order::Release(vec![ticket]), 1, &mut done, &mut back);
        assert_eq!(back, [7]);
    }
}
