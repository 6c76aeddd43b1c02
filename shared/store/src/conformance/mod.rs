//! Behaviour suites: one per contract, run by every backend against a real instance of itself.
//!
//! A case is an async function that takes a fixture and panics when a promise is broken. The
//! macros ([`crate::sql_suite`] and its kin) make one test of each case, so that every backend
//! runs the same list, each case against a database of its own.

pub mod broker;
pub mod credential;
pub mod dead_letter;
pub mod dead_letter_shown;
pub mod fleet;
pub mod master;
pub mod master_wants;
pub mod raw;
pub mod raw_claims;
pub mod raw_queries;
pub mod raw_records;
pub mod replay;
pub mod run;
pub mod run_pull;
pub mod sql;
pub mod task;
pub mod task_blocked;
pub mod task_crash;
pub mod task_day;
pub mod task_keyed_day;
pub mod task_order;
pub mod task_parents;
pub mod task_request;
pub mod task_settle;
pub mod task_unknown;
pub mod task_unsent;

/// Makes a test of each case, in a module of the given name. `$fresh` is an async function that
/// returns an empty store and a guard that removes it when dropped.
#[macro_export]
macro_rules! conformance_cases {
    ($fresh:path, $module:ident, [$($case:ident),* $(,)?]) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let case = $crate::conformance::$module::$case;
                    $crate::conformance::guarded($fresh().await, case).await;
                }
            )*
        }
    };
}

/// Runs a case against a store whose guard removes it when dropped. The runner of
/// [`crate::raw_conformance!`] and [`crate::broker_conformance!`].
pub async fn guarded<S: ?Sized, G, F: Future<Output = ()>>(
    (store, guard): (std::sync::Arc<S>, G),
    case: impl FnOnce(std::sync::Arc<S>) -> F,
) {
    case(store).await;
    drop(guard);
}

/// Asks until there is an answer, 50 times a second.
///
/// # Panics
/// After 20 seconds without one.
pub async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "nothing happened within 20 s"
        );
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
