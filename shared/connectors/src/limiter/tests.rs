use sluice_core::traffic::StoreClock;

use super::*;

fn limit(calls: u32, per_seconds: u32) -> RateLimit {
    RateLimit::new(calls, per_seconds)
}

fn shared(fleet: &Arc<dyn FleetStore>, limits: &[RateLimit]) -> Limiter {
    Limiter::shared(LimiterSettings {
        fleet: Arc::clone(fleet),
        connection: ConnectionId(1),
        name: "acme".into(),
        limits: limits.to_vec(),
        breaker: BreakerPolicy {
            first_wait_ms: 1_500,
            ..BreakerPolicy::default()
        },
        call_lasts: Duration::from_secs(1),
    })
}

fn fleet() -> Arc<dyn FleetStore> {
    Arc::new(local::LocalFleet::default())
}

async fn acquire(limiter: &Limiter) -> Result<Permit> {
    limiter.acquire("/", &Terms::default()).await
}

/// A store that nobody can reach.
struct Away;

#[async_trait::async_trait]
impl FleetStore for Away {
    async fn change(
        &self,
        _: ConnectionId,
        _: &str,
        _: &mut sluice_store::fleet::Change<'_>,
    ) -> Result<()> {
        Err(Error::internal("test_away", "away"))
    }

    async fn change_by(
        &self,
        _: ConnectionId,
        _: &str,
        _: sluice_store::fleet::By<'_>,
        _: &mut sluice_store::fleet::Noted<'_>,
    ) -> Result<()> {
        Err(Error::internal("test_away", "away"))
    }

    async fn documents(
        &self,
        _: &str,
    ) -> Result<(Vec<(ConnectionId, serde_json::Value)>, StoreClock)> {
        Err(Error::internal("test_away", "away"))
    }
}

/// O3: several limiters with one store keep one limit, and a caller that gives up uses no slot.
#[tokio::test]
async fn processes_share_one_limit() {
    let fleet = fleet();
    let replicas: Vec<_> = (0..3).map(|_| shared(&fleet, &[limit(20, 1)])).collect();
    let begin = Instant::now();
    let mut crew = tokio::task::JoinSet::new();
    for limiter in replicas {
        crew.spawn(async move {
            let mut calls = Vec::new();
            let mut tries = 0;
            while begin.elapsed() < Duration::from_secs(4) {
                tries += 1;
                // One in five gives up soon.
                let patience = Duration::from_millis(if tries % 5 == 0 { 5 } else { 10_000 });
                if let Ok(permit) = tokio::time::timeout(patience, acquire(&limiter)).await {
                    permit.unwrap().ended(Ended::Answered);
                    calls.push(begin.elapsed());
                }
            }
            calls
        });
    }
    let mut calls: Vec<_> = crew.join_all().await.into_iter().flatten().collect();
    calls.sort();
    let fullest = (0..calls.len())
        .map(|from| {
            let end = calls[from] + Duration::from_secs(1);
            calls[from..].iter().filter(|call| **call < end).count()
        })
        .max();
    assert!(fullest <= Some(20), "{fullest:?}");
    // The exact use of the limit is measured where time is virtual; this machine may be busy.
    assert!(calls.len() >= 50, "{}", calls.len());
}

/// O3: a pause that one process was asked for stops all, within half a second.
#[tokio::test]
async fn a_pause_stops_every_process() {
    let fleet = fleet();
    let (one, other) = (shared(&fleet, &[]), shared(&fleet, &[]));
    acquire(&one).await.unwrap().ended(Ended::Answered);
    acquire(&other).await.unwrap().ended(Ended::Answered);
    let paused = Instant::now();
    one.pause(Duration::from_secs(2));
    tokio::time::sleep_until(paused + Duration::from_millis(500)).await;
    acquire(&other).await.unwrap().ended(Ended::Answered);
    assert!(
        paused.elapsed() > Duration::from_millis(1_990),
        "{:?}",
        paused.elapsed()
    );
}

/// O3: without the store nobody calls, and the error costs no attempt.
#[tokio::test]
async fn no_store_no_calls() {
    let fleet: Arc<dyn FleetStore> = Arc::new(Away);
    let limiter = shared(&fleet, &[limit(60, 60)]);
    let error = acquire(&limiter).await.err().unwrap();
    assert_eq!(error.code(), "limits_unreachable");
    assert_eq!(error.class(), ErrorClass::RateLimit);
    assert!(error.wait().is_some());
}

/// O4: five failures in a row of one process open the breaker for all; one probe at a time closes
/// it again.
#[tokio::test]
async fn a_breaker_opens_for_everybody_and_closes_after_probes() {
    let fleet = fleet();
    let (one, other) = (shared(&fleet, &[]), shared(&fleet, &[]));
    for _ in 0..5 {
        acquire(&one).await.unwrap().ended(Ended::Failed);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let error = acquire(&other).await.err().unwrap();
    assert_eq!(error.code(), "breaker_open");
    assert!(other.is_guarded());
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    // The one probe is under way: nobody else gets through.
    let probe = acquire(&one).await.unwrap();
    assert_eq!(acquire(&other).await.err().unwrap().code(), "breaker_open");
    probe.ended(Ended::Answered);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        acquire(&other).await.unwrap().ended(Ended::Answered);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    for _ in 0..100 {
        acquire(&one).await.unwrap().ended(Ended::Answered);
    }
    assert!(!one.is_guarded());
}

/// What is urgent does not wait for what may not touch the reserve.
#[tokio::test]
async fn the_reserve_is_for_urgent_calls() {
    let limiter = Limiter::new(&[RateLimit {
        reserve: 50,
        ..limit(2, 1)
    }]);
    let begin = Instant::now();
    let terms = |urgent| Terms {
        urgent,
        begin_by: Some(begin + Duration::from_secs(3)),
        ..Terms::default()
    };
    let calls = async |urgent| {
        let mut calls = 0;
        while let Ok(permit) = limiter.acquire("/", &terms(urgent)).await {
            permit.ended(Ended::Answered);
            calls += 1;
        }
        calls
    };
    let (ordinary, urgent) = tokio::join!(calls(false), calls(true));
    assert!(ordinary <= 3, "{ordinary}");
    assert!(urgent >= 3, "{urgent}");
}

/// What cannot begin in time is not made, and says when to come back.
#[tokio::test]
async fn a_call_begins_in_time_or_not_at_all() {
    let limiter = Limiter::new(&[limit(1, 60)]);
    acquire(&limiter).await.unwrap().ended(Ended::Answered);
    let terms = Terms {
        urgent: false,
        begin_by: Some(Instant::now() + Duration::from_millis(300)),
        ..Terms::default()
    };
    let error = limiter.acquire("/", &terms).await.err().unwrap();
    assert_eq!(error.code(), "no_slot_in_time");
    assert!(
        error.wait() > Some(Duration::from_secs(58)),
        "{:?}",
        error.wait()
    );
}

#[tokio::test]
async fn without_limits_nobody_waits() {
    let limiter = Limiter::new(&[]);
    for _ in 0..1000 {
        acquire(&limiter).await.unwrap().ended(Ended::Answered);
    }
    assert_eq!(limiter.wait(), Duration::ZERO);
    limiter.pause(Duration::from_secs(60));
    assert!(limiter.wait() > Duration::from_secs(59));
}
