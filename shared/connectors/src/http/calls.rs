//! Work in flight to one connection: as much as the connection's own experience allows.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::HttpClient;

tokio::task_local! {
    /// The place that the work under way holds.
    static HELD: RefCell<Held>;
}

/// Bounds the exchanges in flight; follows [`HttpClient::concurrency`]. Clones share the bound.
#[derive(Clone)]
pub struct Calls {
    inner: Arc<Inner>,
}

struct Inner {
    http: HttpClient,
    open: Arc<Semaphore>,
    /// Places there are, taken or not.
    places: Mutex<usize>,
}

/// A place, until dropped.
struct Place {
    calls: Calls,
    /// `None` once it was given back.
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.calls.give_back(permit);
        }
        self.calls.follow();
    }
}

struct Held {
    calls: Calls,
    /// `None` while the work waits for something that has nothing to do with how many others there are.
    place: Option<Place>,
}

impl Calls {
    pub fn new(http: HttpClient) -> Self {
        Self {
            inner: Arc::new(Inner {
                http,
                open: Arc::new(Semaphore::new(0)),
                places: Mutex::new(0),
            }),
        }
    }

    /// Waits for a place, and works on it.
    pub async fn hold<T>(&self, work: impl Future<Output = T>) -> T {
        let held = Held {
            calls: self.clone(),
            place: Some(self.acquire().await),
        };
        HELD.scope(RefCell::new(held), work).await
    }

    /// Others may have the place of this work, which waits in line for a turn of its own.
    pub(crate) fn step_aside() {
        // Work without a bound holds no place.
        let place = HELD.try_with(|held| held.borrow_mut().place.take());
        drop(place);
    }

    /// Takes a place again, after [`Self::step_aside`].
    pub(crate) async fn step_in() {
        let away = HELD.try_with(|held| {
            let held = held.borrow();
            held.place.is_none().then(|| held.calls.clone())
        });
        if let Ok(Some(calls)) = away {
            let place = calls.acquire().await;
            HELD.with(|held| held.borrow_mut().place = Some(place));
        }
    }

    async fn acquire(&self) -> Place {
        self.follow();
        Place {
            calls: self.clone(),
            // Nobody closes the semaphore.
            permit: Arc::clone(&self.inner.open).acquire_owned().await.ok(),
        }
    }

    /// One that is too many goes, whoever waits for it.
    fn give_back(&self, permit: OwnedSemaphorePermit) {
        let Inner { http, places, .. } = &*self.inner;
        let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
        if *places > http.concurrency() {
            *places -= 1;
            permit.forget();
        }
    }

    /// Adds places, or takes free ones away; those in use are taken when they come back.
    fn follow(&self) {
        let Inner { http, open, places } = &*self.inner;
        let mut places = places.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = http.concurrency();
        if wanted > *places {
            open.add_permits(wanted - *places);
            *places = wanted;
        } else {
            *places -= open.forget_permits(*places - wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use sluice_core::secret::SecretConfig;

    use super::*;
    use crate::{http::HttpOptions, limiter::Limiter};

    /// While others wait for a place, no place that is too many is passed on to them.
    #[tokio::test]
    async fn places_become_fewer_while_others_wait() {
        let options = HttpOptions {
            concurrency: 4,
            ..HttpOptions::default()
        };
        let config = SecretConfig::new(serde_json::json!({}));
        let http = HttpClient::new("acme-one", &config, Limiter::new(&[]), options).unwrap();
        let calls = Calls::new(http.clone());
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(calls.acquire().await);
        }
        let mut next = Box::pin(calls.acquire());
        assert!(next.as_mut().now_or_never().is_none());
        http.congestion().congested();
        for _ in 0..2 {
            held.pop();
            assert!(next.as_mut().now_or_never().is_none());
        }
        held.pop();
        assert!(next.as_mut().now_or_never().is_some());
    }
}
