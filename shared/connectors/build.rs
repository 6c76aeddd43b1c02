//! The shipped connector folders are compiled in; a changed file there must rebuild the crate.

#[expect(
    clippy::print_stdout,
    reason = "this is how a build script talks to cargo"
)]
fn main() {
    println!("cargo::rerun-if-changed=systems");
}
