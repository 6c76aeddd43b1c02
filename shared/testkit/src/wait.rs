//! Waiting for a condition instead of sleeping.

use std::time::Duration;

/// Asks again and again until the condition holds.
///
/// # Panics
/// When it does not hold within `patience`; the text names the caller's line.
#[track_caller]
pub fn wait_until<F, C>(patience: Duration, mut condition: F) -> impl Future<Output = ()>
where
    F: FnMut() -> C,
    C: Future<Output = bool>,
{
    let caller = std::panic::Location::caller();
    async move {
        let deadline = tokio::time::Instant::now() + patience;
        // Short at first, so that a quick condition costs a test nothing.
        let mut pause = Duration::from_millis(2);
        while !condition().await {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the condition at {caller} did not hold within {patience:?}"
            );
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_when_the_condition_holds() {
        let mut calls = 0;
        wait_until(Duration::from_secs(5), || {
            calls += 1;
            let done = calls == 3;
            async move { done }
        })
        .await;
        assert_eq!(calls, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "did not hold within")]
    async fn it_gives_up_in_time() {
        wait_until(Duration::from_millis(10), || async { false }).await;
    }
}
