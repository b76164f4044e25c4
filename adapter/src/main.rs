//! The command `virtio-loopback`.
fn main() {}
