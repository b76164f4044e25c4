//! The command `vhost-user-sound`.
fn main() {}
