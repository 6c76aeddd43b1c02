//! Behaviour suites: one per contract, run by every backend against a real instance of itself.
//!
//! A case is an async function that takes a fixture and panics when a promise is broken. The
//! macros ([`crate::sql_suite`] and its kin) make one test of each case, so that every backend
//! runs the same list, each case against a database of its own.

pub mod dead_letter;
pub mod master;
pub mod run;
pub mod sql;
pub mod task;

/// Makes a test of each case: a module of the given name, in which each case runs against a fresh
/// fixture that is removed afterwards, also when the case fails.
#[macro_export]
macro_rules! conformance_cases {
    ($fixture:path, $module:ident, $run:path, [$($case:ident),* $(,)?]) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $run($fixture().await, $crate::conformance::$module::$case).await;
                }
            )*
        }
    };
}
