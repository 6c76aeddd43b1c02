//! Runs a case with both runtimes against a scripted server and compares what happened.

#![allow(dead_code, reason = "each test binary uses a part of what they share")]

pub mod case;
pub mod compare;
pub mod mock;
pub mod ours;
pub mod reference;
