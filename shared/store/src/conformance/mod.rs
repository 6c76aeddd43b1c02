//! Behaviour suites: one per contract, run by every backend against a real instance of itself.
