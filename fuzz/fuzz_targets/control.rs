// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vhost_user_sound::fuzz::control(input));
