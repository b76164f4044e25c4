// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#![no_main]

#[path = "../adapter.rs"]
mod adapter;

libfuzzer_sys::fuzz_target!(|input: &[u8]| adapter::vhost_user_adapter(input));
