//! The declarative read engine compared with the reference runtime; see `tests/` and README.md.
