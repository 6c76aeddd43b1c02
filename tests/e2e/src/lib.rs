//! End-to-end and whole-repository tests; see `tests/`.
