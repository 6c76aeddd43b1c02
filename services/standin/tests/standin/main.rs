//! The stand-ins over the wire, in one program.

mod faults;
mod lessen360_calls;
mod lessen360_records;
mod one_calls;
mod one_records;
mod support;
mod yardi_calls;
mod yardi_reading;
mod yardi_writing;
