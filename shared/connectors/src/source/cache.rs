//! Answers kept for the time of one sync, so that a parent read for several children is fetched
//! once.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use sluice_core::Hash;

use crate::http::{Method, Request, Response};

/// Bytes of bodies kept at most; what does not fit is fetched again.
const MAX_BYTES: usize = 64 << 20;

/// Good answers to GET requests, by URL, headers and body.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<Hash, Response>,
    bytes: usize,
}

impl Cache {
    pub fn get(&self, request: &Request) -> Option<Response> {
        let key = key(request)?;
        self.kept().answers.get(&key).cloned()
    }

    pub fn put(&self, request: &Request, response: &Response) {
        let (Some(key), 200) = (key(request), response.status.as_u16()) else {
            return;
        };
        let mut kept = self.kept();
        let bytes = kept.bytes + response.body.len();
        if bytes <= MAX_BYTES && kept.answers.insert(key, response.clone()).is_none() {
            kept.bytes = bytes;
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(request: &Request) -> Option<Hash> {
    (request.method == Method::GET).then(|| identity(request))
}

/// What tells requests apart.
pub fn identity(request: &Request) -> Hash {
    let mut bytes = format!("{} {}\n", request.method, request.url).into_bytes();
    let mut headers: Vec<_> = request.headers.iter().collect();
    headers.sort_by(|a, b| (a.0.as_str(), a.1.as_bytes()).cmp(&(b.0.as_str(), b.1.as_bytes())));
    for (name, value) in headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.push(b':');
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    }
    bytes.push(b'\n');
    bytes.extend_from_slice(&request.body);
    Hash::of_bytes(&bytes)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reqwest::StatusCode;

    use super::*;
    use crate::http::HeaderMap;

    fn request(method: Method, url: &str) -> Request {
        Request::new(method, url.parse().unwrap())
    }

    fn answer(status: u16, bytes: usize) -> Response {
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from(vec![b'x'; bytes]),
        }
    }

    #[test]
    fn only_good_answers_to_the_same_get_are_kept_and_memory_is_bounded() {
        let cache = Cache::default();
        let get = request(Method::GET, "http://x.test/a?b=1");
        cache.put(&get, &answer(500, 1));
        assert!(cache.get(&get).is_none());
        cache.put(&get, &answer(200, 1));
        assert_eq!(cache.get(&get).unwrap().body.len(), 1);
        assert!(
            cache
                .get(&request(Method::GET, "http://x.test/a?b=2"))
                .is_none()
        );
        let mut other = get.clone();
        other.headers.insert("x-key", "1".parse().unwrap());
        assert!(cache.get(&other).is_none());
        let post = request(Method::POST, "http://x.test/a?b=1");
        cache.put(&post, &answer(200, 1));
        assert!(cache.get(&post).is_none());
        cache.put(&other, &answer(200, MAX_BYTES));
        assert!(cache.get(&other).is_none());
    }
}
