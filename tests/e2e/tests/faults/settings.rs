//! How long, and which seeds.

/// From the environment.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    first: u64,
    count: u64,
    /// How often each seed's schedule goes through all faults.
    pub rounds: usize,
}

impl Settings {
    /// `SLUICE_FAULT_SEED` (default 1), `SLUICE_FAULT_SEEDS`: how many from there on (default 1),
    /// `SLUICE_FAULT_ROUNDS` (default 1).
    ///
    /// # Panics
    /// When one of them is no number.
    pub fn read() -> Self {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text
                .parse()
                .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
            Err(_) => default,
        };
        Self {
            first: number("SLUICE_FAULT_SEED", 1),
            count: number("SLUICE_FAULT_SEEDS", 1),
            rounds: number("SLUICE_FAULT_ROUNDS", 1) as usize,
        }
    }

    pub fn seeds(self) -> impl Iterator<Item = u64> {
        self.first..self.first.saturating_add(self.count)
    }
}
