//! The shipped targets against the stand-ins, which share no code with them, in one program.

mod check;
mod failures;
mod lessen360;
mod one;
mod support;
