//! gatehook
fn main() {}
