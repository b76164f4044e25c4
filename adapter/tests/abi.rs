// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The Rust side of the ABI against the C header: a C program that is compiled against the header
//! prints every size, offset, constant and ioctl number, and must say what `driver::uapi` says.
//! What the header has and this test does not name is an error, too.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test, also where clippy.toml does not see it: outside of #[test] functions"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::{offset_of, size_of};
use std::path::{Path, PathBuf};
use std::process::Command;

use virtio_loopback::driver::uapi;

/// C expression -> value on the Rust side.
type Values = BTreeMap<String, u64>;

fn header() -> PathBuf {
    let below = "../kernel-driver/include/uapi/linux/virtio_loopback.h";
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// Size of a structure, offset and size of each field: `Rust is "c" { field is "c field" }`.
macro_rules! layout {
    ($values:ident, $rust:ident is $c:literal { $($field:ident $(is $c_field:literal)?),* $(,)? }) => {
        $values.insert(format!("sizeof(struct {})", $c), size_of::<uapi::$rust>() as u64);
        $(
            let name = [stringify!($field) $(, $c_field)?];
            let name = name[name.len() - 1];
            let value = uapi::$rust::default();
            $values.insert(
                format!("__builtin_offsetof(struct {}, {name})", $c),
                offset_of!(uapi::$rust, $field) as u64,
            );
            $values.insert(
                format!("sizeof(((struct {} *)0)->{name})", $c),
                size_of_val(&value.$field) as u64,
            );
        )*
    };
}

fn layouts() -> Values {
    let mut values = Values::new();
    layout!(values, Info is "virtio_loopback_info" { abi_version, flags, features, reserved });
    layout!(values, Create is "virtio_loopback_create" {
        name, device_id, vendor_id, features, flags, queue_count, config_size, reserved0,
        bounce_size, zero_copy_size, config, queue_sizes, reserved,
    });
    layout!(values, Name is "virtio_loopback_name" { name });
    layout!(values, Device is "virtio_loopback_device" {
        name, device_id, vendor_id, features, driver_features, memory_size, flags, queue_count,
        config_size, state, attached, driver_bound, virtio_index, owner, reserved,
    });
    layout!(values, List is "virtio_loopback_list" { devices, capacity, count });
    layout!(values, Queue is "virtio_loopback_queue" {
        index, size, desc_addr, driver_addr, device_addr, reserved,
    });
    layout!(values, Eventfds is "virtio_loopback_eventfds" { index, kick, call, reserved });
    layout!(values, Request is "virtio_loopback_request" {
        id, kind is "type", flags, payload is "pad",
    });
    layout!(values, Answer is "virtio_loopback_answer" { id, status, reserved });
    layout!(values, Config is "virtio_loopback_config" { offset, length, flags, reserved, data });
    let of_request = [
        ("start.features", uapi::REQUEST_FEATURES),
        ("config_write.offset", uapi::REQUEST_WRITE_OFFSET),
        ("config_write.length", uapi::REQUEST_WRITE_LENGTH),
        ("config_write.data", uapi::REQUEST_WRITE_DATA),
    ];
    for (field, offset) in of_request {
        let request = "struct virtio_loopback_request";
        values.insert(
            format!("__builtin_offsetof({request}, {field})"),
            offset as u64,
        );
    }
    let data = "sizeof(((struct virtio_loopback_request *)0)->config_write.data)";
    values.insert(data.into(), uapi::CONFIG_WRITE_MAX as u64);
    values
}

fn constants() -> Values {
    let constants: [(&str, u64); 34] = [
        ("ABI_VERSION", uapi::ABI_VERSION.into()),
        ("NAME_SIZE", uapi::NAME_SIZE as u64),
        ("MAX_QUEUES", uapi::MAX_QUEUES.into()),
        ("MAX_QUEUE_SIZE", uapi::MAX_QUEUE_SIZE.into()),
        ("MAX_CONFIG", uapi::MAX_CONFIG.into()),
        ("MAX_BOUNCE", uapi::MAX_BOUNCE),
        ("MAX_ZERO_COPY", uapi::MAX_ZERO_COPY),
        ("MAX_SOUND_ITEMS", uapi::MAX_SOUND_ITEMS.into()),
        ("MIN_SOUND_QUEUE", uapi::MIN_SOUND_QUEUE.into()),
        ("F_ZERO_COPY", uapi::F_ZERO_COPY.into()),
        ("STATE_IDLE", uapi::STATE_IDLE.into()),
        ("STATE_STARTING", uapi::STATE_STARTING.into()),
        ("STATE_LIVE", uapi::STATE_LIVE.into()),
        ("STATE_QUIESCED", uapi::STATE_QUIESCED.into()),
        ("STATE_STOPPING", uapi::STATE_STOPPING.into()),
        ("STATE_DYING", uapi::STATE_DYING.into()),
        ("REQUEST_START", uapi::REQUEST_START.into()),
        ("REQUEST_STOP", uapi::REQUEST_STOP.into()),
        ("REQUEST_CONFIG_WRITE", uapi::REQUEST_CONFIG_WRITE.into()),
        ("START_RESUME", uapi::START_RESUME.into()),
        ("CONFIG_WRITE_MAX", uapi::CONFIG_WRITE_MAX as u64),
        ("CONFIG_NOTIFY", uapi::CONFIG_NOTIFY.into()),
        ("IOC", uapi::IOC.into()),
        ("GET_INFO", uapi::GET_INFO),
        ("LIST", uapi::LIST),
        ("CREATE", uapi::CREATE),
        ("ATTACH", uapi::ATTACH),
        ("DESTROY", uapi::DESTROY),
        ("GET_DEVICE", uapi::GET_DEVICE),
        ("GET_QUEUE", uapi::GET_QUEUE),
        ("GET_MEMORY", uapi::GET_MEMORY),
        ("SET_EVENTFDS", uapi::SET_EVENTFDS),
        ("ANSWER", uapi::ANSWER),
        ("SET_CONFIG", uapi::SET_CONFIG),
    ];
    constants
        .map(|(name, value)| (format!("VIRTIO_LOOPBACK_{name}"), value))
        .into()
}

/// What the C compiler says about each expression.
fn ask_c(expressions: impl Iterator<Item = String>) -> Values {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("abi.c"), folder.path().join("abi"));
    let prints: String = expressions
        .map(|it| format!("\tprintf(\"%llu {it}\\n\", (unsigned long long)({it}));\n"))
        .collect();
    let header = header();
    let text = format!(
        "#include <stdio.h>\n#include \"{}\"\nint main(void)\n{{\n{prints}\treturn 0;\n}}\n",
        header.display()
    );
    fs::write(&source, text).unwrap();
    let mut compile = Command::new("cc");
    compile
        .args(["-Wall", "-Werror", "-o"])
        .args([&program, &source]);
    assert!(
        compile
            .status()
            .expect("cc is needed for this test")
            .success()
    );
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let value = |line: &str| {
        let (value, name) = line.split_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.lines().map(value).collect()
}

#[test]
fn sizes_and_offsets_are_those_of_the_header() {
    let values = layouts();
    assert_eq!(ask_c(values.keys().cloned()), values);
}

#[test]
fn constants_and_ioctl_numbers_are_those_of_the_header() {
    let values = constants();
    assert_eq!(ask_c(values.keys().cloned()), values);
}

/// The header without comments, one declaration a line.
fn declarations() -> Vec<String> {
    let text = fs::read_to_string(header()).unwrap();
    let mut code = String::new();
    for (i, part) in text.split("/*").enumerate() {
        code.push_str(if i == 0 {
            part
        } else {
            part.split_once("*/").unwrap().1
        });
    }
    code.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_constant_of_the_header_is_checked() {
    let constant = |line: &String| {
        let name = line.strip_prefix("#define ").unwrap_or(line);
        let name = name.split([' ', '\t']).next()?.to_owned();
        let guard = name.starts_with('_');
        (!guard && name.starts_with("VIRTIO_LOOPBACK_")).then_some(name)
    };
    let in_header: BTreeSet<_> = declarations().iter().filter_map(constant).collect();
    assert_eq!(in_header, constants().into_keys().collect());
}

#[test]
fn every_field_of_the_header_is_checked() {
    let checked = layouts();
    let mut structure = String::new();
    let mut count = 0;
    for line in declarations() {
        if let Some(name) = line
            .strip_prefix("struct ")
            .and_then(|line| line.strip_suffix(" {"))
        {
            structure = name.to_owned();
        }
        let Some(declared) = line.strip_suffix(';').filter(|line| !line.starts_with('}')) else {
            continue;
        };
        let field = declared
            .split_whitespace()
            .last()
            .unwrap()
            .split('[')
            .next()
            .unwrap();
        let is_checked = checked.keys().any(|it| {
            it.starts_with(&format!("__builtin_offsetof(struct {structure}, "))
                && it.split([' ', '.']).next_back() == Some(&format!("{field})"))
        });
        assert!(is_checked, "{structure}.{field} is not checked");
        count += 1;
    }
    assert!(count > 60, "the header was not understood: {count} fields");
}
