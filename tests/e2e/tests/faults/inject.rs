//! Makes a fault happen and, where it does not end by itself, heals it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use sluice_runtime::failpoint::Point;
use sluice_servers::{MONGODB, POSTGRES, RABBITMQ};
use sluice_testkit::{Weather, wait_until};
use tokio::time::Instant;

use super::{
    history::Alarm,
    schedule::Fault,
    webhook::Hook,
    world::{Backend, PATIENCE, Vendor, World, pause},
};

/// Longest wait for an alarm to hold somebody up.
const ALARM: Duration = Duration::from_secs(60);

impl World {
    pub async fn inject(&mut self, fault: &Fault) {
        if let Fault::Kill { .. } | Fault::FailPoint { .. } | Fault::Stop { .. } | Fault::Poison =
            fault
        {
            self.until_the_innocent_are_cleared().await;
        }
        match fault {
            Fault::Kill { role, which } => {
                let places = self.places(role);
                self.restart(places[which % places.len()], None).await;
            }
            Fault::FailPoint { point, hit } => self.die_at(*point, *hit).await,
            Fault::Stop { role } => self.oversleep(role).await,
            Fault::BrokerRestart => self.end_and_start(RABBITMQ, "TERM"),
            Fault::BrokerKill => self.end_and_start(RABBITMQ, "KILL"),
            Fault::PostgresRestart => self.end_and_start(POSTGRES, "QUIT"),
            Fault::MongoKill => self.end_and_start(MONGODB, "KILL"),
            Fault::BackendsTerminated => {
                let others = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                              where datname = current_database() and pid <> pg_backend_pid()";
                self.sql.number(others).await;
            }
            Fault::BrokerConnectionsClosed => {
                self.broker(&["close_all_connections", "a fault of the tests"]);
            }
            Fault::BrokerChannelsKilled => {
                let kill = "lists:foreach(fun(Pid) -> exit(Pid, kill) end, rabbit_channel:list()).";
                self.broker(&["eval", kill]);
            }
            Fault::MemoryAlarm => {
                self.broker(&["set_vm_memory_high_watermark", "0.000001"]);
                self.until_publishers_wait("the memory alarm").await;
                self.broker(&["set_vm_memory_high_watermark", "0.6"]);
            }
            Fault::DiskAlarm => {
                self.broker(&["set_disk_free_limit", "900000GB"]);
                self.until_publishers_wait("the disk alarm").await;
                self.broker(&["set_disk_free_limit", "50MB"]);
            }
            Fault::QueueDeleted { which } => {
                let queues = self.broker(&["list_queues", "--silent", "name"]);
                let queues: Vec<_> = queues.lines().map(str::trim).collect();
                let queue = queues[which % queues.len()].to_owned();
                self.broker(&["delete_queue", &queue]);
            }
            Fault::Network {
                link,
                weather,
                calls,
                at_most,
            } => {
                self.proxy(*link).set(*weather);
                if *weather == Weather::Down {
                    self.proxy(*link).cut();
                }
                self.calls_or(*calls, *at_most).await;
                self.proxy(*link).set(Weather::Clear);
            }
            Fault::Poison => {
                let edits = self.edit(1, &["resident.create"]).await;
                let key = edits["edits"][0]["key"].as_str().unwrap();
                let record = format!("{}:{key}", Vendor::Yardi.name());
                self.poison(Some(record)).await;
                self.run(false).await;
            }
            Fault::Replay => {
                self.replay(&["--class", "validation"]).await;
            }
            Fault::Deletion => self.delete_hooked().await,
            Fault::Cut { link } => self.proxy(*link).cut(),
        }
    }

    /// Whoever was in a worker's hands each time the suite ended it looks like one that kills workers:
    /// nobody can tell them apart, so the suite does not do it to the same records too often.
    async fn until_the_innocent_are_cleared(&mut self) {
        let guilty: Vec<_> = self.poisoned.iter().map(|id| format!("'{id}'")).collect();
        let guilty = match guilty.as_slice() {
            [] => "''".to_owned(),
            _ => guilty.join(", "),
        };
        let suspects = format!(
            "select count(*) from sync_queue q join sync_master_data m on m.id = q.master_data_id
             where q.crash_count > 2 and q.blocked_on is null and m.entity_id not in ({guilty})
                and q.state in ('pending', 'staged', 'running', 'waiting')"
        );
        let cleared = async |world: &Self| world.sql.number(&suspects).await == 0;
        self.until("suspects are cleared", cleared).await;
    }

    /// Tells of a record, and once it is known, that it is gone; its sender delivers that again at the
    /// end.
    async fn delete_hooked(&mut self) {
        let code = self.next_hook();
        let hook = Hook::new(&code);
        let heard = async |world: &Self| hook.send(world).await;
        self.until("a webhook is taken", heard).await;
        let known = format!("select count(*) from sync_master_data where source_id = '{code}'");
        let known = async |world: &Self| world.sql.number(&known).await == 1;
        self.until("a webhook's record is known", known).await;
        self.gone.push(code.clone());
        // Whether or not it is heard.
        Hook::gone(&code).send(self).await;
    }

    fn end_and_start(&mut self, server: &str, signal: &str) {
        self.servers().end(server, signal).unwrap();
        self.servers().start_again(server).unwrap();
    }

    fn broker(&mut self, arguments: &[&str]) -> String {
        self.servers().rabbitmqctl(arguments).unwrap()
    }

    /// Gives publishers work until one of them is held up by an alarm, and notes whether any was.
    async fn until_publishers_wait(&mut self, name: &'static str) {
        let deadline = Instant::now() + ALARM;
        let mut blocked = false;
        while !blocked && Instant::now() < deadline {
            if self.is_quiet().await {
                self.edit(5, &[]).await;
                self.run(false).await;
            }
            let states = self.broker(&["list_connections", "--silent", "state"]);
            blocked = states.lines().any(|state| state.trim() == "blocked");
        }
        self.alarms.push(Alarm { name, blocked });
    }

    /// Until work has come so many calls further, for so long at most.
    async fn calls_or(&self, calls: u64, at_most: Duration) {
        let goal = self.calls().await + calls;
        let enough = wait_until(Duration::from_secs(3_600), || async {
            self.calls().await >= goal
        });
        // Running out of time is as good: the fault has lasted.
        let _ = tokio::time::timeout(at_most, enough).await;
    }

    /// SIGSTOP for the first of a role's processes that holds a lease, until its leases are over and
    /// its tasks have others to care for them; then SIGCONT.
    async fn oversleep(&mut self, role: &str) {
        // A call without an answer ends with its caller's patience, which a stopped caller has none of:
        // it would still be under way when another worker takes over, as nobody can prevent.
        self.clear_faults().await;
        let answered = async |world: &Self| {
            let mut open = 0;
            for vendor in Vendor::ALL {
                open += world.control(vendor).get("stats").await["in_flight"]
                    .as_u64()
                    .unwrap();
            }
            open == 0
        };
        self.until("calls without an answer are given up", answered)
            .await;
        // Long calls, so that one is caught in the middle.
        for vendor in Vendor::ALL {
            let rule = json!({ "kind": "latency", "delay_ms": 1_500, "count": 3 });
            self.control(vendor).fault(rule).await;
        }
        self.edit(10, &[]).await;
        self.run(false).await;
        let holds = |id: u32| {
            format!(
                "select count(*) from sync_queue
                 where state = 'running' and lease_owner like '%/{id}'"
            )
        };
        let mut asleep = self.places(role)[0];
        let deadline = Instant::now() + PATIENCE;
        'busy: while !self.is_quiet().await {
            assert!(Instant::now() < deadline, "no {role} takes work");
            self.count_deserters().await;
            for place in self.places(role) {
                let holding = holds(self.service(place).id());
                if self.sql.number(&holding).await > 0 {
                    asleep = place;
                    break 'busy;
                }
            }
            pause().await;
        }
        let held = holds(self.service(asleep).id());
        self.service(asleep).signal("STOP");
        let over = async |world: &Self| match world.backend {
            Backend::Servers => world.sql.number(&held).await == 0,
            // Nobody else is there to take over.
            Backend::Embedded => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                let running = format!("{held} and lease_until > {}", now.as_micros());
                world.sql.number(&running).await == 0
            }
        };
        self.until("leases of a stopped worker end", over).await;
        self.service(asleep).signal("CONT");
    }

    /// Every process of the point's role ends, the first one in peace, so that it dies once only; it
    /// comes back with the fail point armed, gets the work that leads there, and dies of it; then all
    /// come back.
    async fn die_at(&mut self, point: Point, hit: u32) {
        let places = self.places(self.role_of(point));
        let hit = if is_rare(point) { 1 } else { hit };
        let rules = format!("{}=kill@{hit}", point.name());
        for place in &places[1..] {
            self.service(*place).signal("KILL");
        }
        self.away.clone_from(&places);
        if self.service(places[0]).is_running() {
            self.service(places[0]).terminate(PATIENCE).await;
        }
        self.restart(places[0], Some(&rules)).await;
        self.lead_to(point).await;
        let deadline = Instant::now() + PATIENCE;
        while !self.died_of(places[0], point.name()) {
            if !self.service(places[0]).is_running() {
                // The poison was faster.
                self.restart(places[0], Some(&rules)).await;
            }
            assert!(
                Instant::now() < deadline,
                "{} was not reached:\n{}",
                point.name(),
                self.service(places[0]).text()
            );
            if point == Point::ApiKept {
                let code = self.next_hook();
                Hook::new(&code).send(self).await;
            }
            if self.is_quiet().await {
                self.lead_to(point).await;
            }
            self.count_deserters().await;
            pause().await;
        }
        self.away.clear();
        for place in places {
            self.restart(place, None).await;
        }
    }

    fn role_of(&self, point: Point) -> &'static str {
        if self.backend == Backend::Embedded {
            return "up";
        }
        match point.name().split('.').next().unwrap_or_default() {
            "api" => "api",
            "orchestrator" => "orchestrator",
            "sync_in" => "sync-in",
            _ => "sync-out",
        }
    }

    /// Work that passes by the point.
    async fn lead_to(&mut self, point: Point) {
        match point {
            Point::ApiKept => return,
            // Webhooks are taken in by recovery.
            Point::SyncInRecovering => {
                let code = self.next_hook();
                Hook::new(&code).send(self).await;
                return;
            }
            Point::SyncOutLookedUp => {
                for (vendor, operation) in [
                    (Vendor::One, "createResident"),
                    (Vendor::Lessen360, "POST /v1/residents"),
                ] {
                    let rule = json!({
                        "kind": "commit_then_reset", "operation": operation, "count": 2,
                    });
                    self.control(vendor).fault(rule).await;
                }
                drop(self.edit(6, &["resident.create"]).await);
            }
            // What the fleet shares is good for long.
            Point::TokenRenewed | Point::TokenKept | Point::TargetToken => {
                let rule = json!({ "kind": "token_expiry" });
                self.control(Vendor::One).fault(rule).await;
                drop(self.edit(6, &["resident.create"]).await);
            }
            Point::OrchestratorMirrored => {
                let rule = json!({
                    "kind": "http_422", "operation": "POST /v1/residents", "count": 1,
                });
                self.control(Vendor::Lessen360).fault(rule).await;
                drop(self.edit(3, &["resident.create"]).await);
            }
            _ => drop(self.edit(8, &[]).await),
        }
        self.run(false).await;
    }
}

/// Whether each piece of work passes by only once.
fn is_rare(point: Point) -> bool {
    matches!(
        point,
        Point::ApiKept
            | Point::SyncInRecovering
            | Point::SyncOutLookedUp
            | Point::TokenRenewed
            | Point::TokenKept
            | Point::TargetToken
            | Point::OrchestratorMirrored
    )
}
