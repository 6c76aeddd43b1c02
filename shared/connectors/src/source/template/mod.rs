pub mod literal;
pub mod python;
