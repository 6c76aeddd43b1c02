//! The shipped connector folders are compiled in; a changed file there must rebuild the crate.

fn main() {
    println!("cargo::rerun-if-changed=systems");
}
