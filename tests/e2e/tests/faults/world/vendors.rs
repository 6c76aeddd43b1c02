//! The external systems: stand-ins that can be told to fail.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sluice_standin::{Handle, Kind, Options, compare::EDITS_WITHOUT_DELETION};
use sluice_testkit::Proxy;

use super::{
    super::{
        harness::{Control, Setup, serve},
        history::Limit,
    },
    World,
};

/// Of each target: low enough that what piles up in an outage runs into it.
pub const TARGET_LIMIT: Limit = Limit {
    calls: 75,
    seconds: 5,
};

/// The external systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    Yardi,
    One,
    Lessen360,
}

impl Vendor {
    pub const ALL: [Self; 3] = [Self::Yardi, Self::One, Self::Lessen360];

    /// Name of the connection and of the stand-in.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yardi => "yardi",
            Self::One => "one",
            Self::Lessen360 => "lessen360",
        }
    }
}

/// A stand-in, and the way to it.
pub(super) struct Stand {
    pub(super) handle: Handle,
    pub(super) proxy: Proxy,
}

impl Stand {
    pub(super) async fn start(vendor: Vendor, setup: &Setup) -> Self {
        let handle = serve(options(vendor, setup)).await;
        let proxy = Proxy::start(&handle.addr().to_string()).await;
        Self { handle, proxy }
    }
}

impl World {
    pub fn control(&self, vendor: Vendor) -> Control<'_> {
        Control::new(&self.http, &self.vendors[vendor as usize].handle)
    }

    pub async fn clear_faults(&self) {
        for vendor in Vendor::ALL {
            self.control(vendor).clear_faults().await;
        }
    }

    /// Tells a vendor to misbehave.
    pub async fn order(&mut self, vendor: Vendor, rule: &Value) {
        let kind = rule["kind"].as_str().unwrap();
        self.orders.push((vendor, kind.to_owned()));
        self.control(vendor).fault(rule.clone()).await;
    }

    /// Until every vendor has misbehaved in every way it was told to. Other faults may have ended a
    /// rule before a call met it; such a one is given again.
    pub async fn until_orders_are_met(&mut self) {
        let open = self.open_orders().await;
        if open.is_empty() {
            return;
        }
        self.clear_faults().await;
        for (vendor, kind) in open {
            // Later than callers wait.
            let rule = json!({ "kind": kind, "count": 1, "delay_ms": 4_500, "retry_after": 1 });
            self.control(vendor).fault(rule).await;
        }
        let met = async |world: &Self| {
            if world.is_quiet().await {
                world.edit(8, &[]).await;
                world.run(false).await;
            }
            world.open_orders().await.is_empty()
        };
        self.until("vendors misbehave as they were told to", met)
            .await;
    }

    /// Ways in which a vendor was told to misbehave and has not yet.
    async fn open_orders(&self) -> Vec<(Vendor, String)> {
        let mut open = Vec::new();
        for vendor in Vendor::ALL {
            let ledger = self.control(vendor).ledger().await;
            let played: BTreeSet<_> = ledger
                .iter()
                .filter_map(|entry| entry["fault"].as_str())
                .collect();
            let orders = self.orders.iter();
            let mut missing: Vec<_> = orders
                .filter(|(to, kind)| *to == vendor && !played.contains(kind.as_str()))
                .cloned()
                .collect();
            missing.dedup();
            open.extend(missing);
        }
        open
    }

    /// People at the source change records: in these ways, or in all that every place can agree on
    /// afterwards. Returns what they did.
    pub async fn edit(&self, count: usize, only: &[&str]) -> Value {
        let only = match only {
            [] => EDITS_WITHOUT_DELETION,
            only => only,
        };
        let request = json!({ "count": count, "only": only });
        self.control(Vendor::Yardi).post("edits", &request).await
    }

    /// Calls that arrived at all stand-ins together: how far the work has come.
    pub async fn calls(&self) -> u64 {
        let mut calls = 0;
        for vendor in Vendor::ALL {
            calls += self.control(vendor).get("stats").await["calls"]
                .as_u64()
                .unwrap();
        }
        calls
    }
}

fn options(vendor: Vendor, setup: &Setup) -> Options {
    let kind = match vendor {
        Vendor::Yardi => {
            return Options {
                records: setup.records,
                seed: setup.seed,
                ledger_entries: 1_000_000,
                ..Options::new(Kind::Yardi)
            };
        }
        Vendor::One => Kind::One,
        Vendor::Lessen360 => Kind::Lessen360,
    };
    Options {
        limit_per_minute: Some(setup.target_limit),
        ledger_entries: 1_000_000,
        ..Options::new(kind)
    }
}
