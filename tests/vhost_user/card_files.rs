// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `--card FILE`: right files, the examples, and wrong ones.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::card::Card;
use crate::command_line::{fails_with, is_wrong_usage, output};
use crate::device::Device;
use crate::sound::*;

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/cards");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// A folder with this card file.
fn folder_with(card: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("card.toml"), card).unwrap();
    folder
}

/// What `--check` prints.
fn checked(folder: &TempDir, arguments: &[&str]) -> String {
    let arguments = [&["--check"], arguments].concat();
    let output = output(folder, &arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{error}");
    // alsa-lib has a voice of its own where a card is missing.
    assert!(
        error.lines().all(|line| line.starts_with("ALSA lib")),
        "{error}"
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_example_is_a_card() {
    let names: Vec<_> = examples()
        .iter()
        .map(|path| path.file_name().unwrap().to_owned())
        .collect();
    let expected = [
        "loop.toml",
        "music.toml",
        "navigation.toml",
        "phone.toml",
        "stereo.toml",
        "studio.toml",
    ];
    assert_eq!(names, expected);
    for path in examples() {
        let text = fs::read_to_string(&path).unwrap();
        // A program that was built without a host has none of its cards.
        if cfg!(not(feature = "alsa")) && text.contains("\"alsa\"")
            || cfg!(not(feature = "pipewire")) && text.contains("\"pipewire\"")
        {
            continue;
        }
        let folder = folder_with(&text);
        let printed = checked(&folder, &["--card", "card.toml"]);
        let tables = |name: &str| text.lines().filter(|line| *line == name).count();
        assert!(printed.matches("stream ").count() >= tables("[[stream]]"));
        assert_eq!(printed.matches("\njack ").count(), tables("[[jack]]"));
        let controls = printed.matches("\ncontrol ").count();
        assert!(controls >= tables("[[control]]"), "{printed}");
        // Nothing was made but looked at.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_card_is_printed_as_its_driver_would_find_it() {
    let folder = folder_with(
        "[[stream]]\nname = 'a'\ndirection = 'playback'\nhost = 'null'\ndevice = 3\nsubstreams = 2\n\
         formats = ['U8', 'FLOAT']\nrates = [8000]\nchannels = 2\n\
         [[jack]]\nkind = 'headphone'\nfollow = { card = 'hw:7', element = 'Headphone Jack' }\n\
         [process]\ncpus = '3,0-1'\nrt-priority = 0\n",
    );
    let expected = "\
stream 0 (a): playback device 3, substream 0: null
    formats  U8 FLOAT_LE
    rates    8000
    channels 2
    maps     FL,FR
stream 1 (a): playback device 3, substream 1: null
    formats  U8 FLOAT_LE
    rates    8000
    channels 2
    maps     FL,FR
jack 0: headphone, plugged, follows 'Headphone Jack',0 of hw:7
control 0: 'Master Playback Volume',0: volume from -60 to 0 dB of playback streams 0 1
control 1: 'Master Playback Switch',0: mute of playback streams 0 1
process: on CPUs 0-1,3
process: no real-time priority
";
    let printed = checked(&folder, &["--card", "card.toml"]);
    let card = printed
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("sandbox: "));
    assert_eq!(card.collect::<String>(), expected);
    let json = checked(&folder, &["--json", "--card", "card.toml"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let stream = |id| {
        serde_json::json!({
            "id": id, "name": "a", "direction": "playback", "device": 3, "host": "null", "role": null,
            "formats": ["U8", "FLOAT_LE"], "rates": [8000], "channels": [2, 2], "maps": ["FL,FR"], "fault": null,
        })
    };
    assert_eq!(json["streams"], serde_json::json!([stream(0), stream(1)]));
    let jack = serde_json::json!({
        "kind": "headphone", "plugged": true, "follow": "'Headphone Jack',0 of hw:7",
    });
    assert_eq!(json["jacks"], serde_json::json!([jack]));
    let volume = serde_json::json!({
        "name": "Master Playback Volume", "index": 0, "kind": "volume", "direction": "playback",
        "streams": [0, 1], "range_db": [-60.0, 0.0], "mixer": null,
    });
    assert_eq!(json["controls"][0], volume);
    assert_eq!(
        (json["cpus"].as_str(), json["rt_priority"].as_u64()),
        (Some("0-1,3"), Some(0))
    );
    assert!(json["sandbox"]["on"].is_array() && json["sandbox"]["off"].is_array());
}

#[test]
fn the_command_line_describes_the_same_card() {
    let folder = folder_with(
        "[[stream]]\ndirection = 'playback'\nhost = 'file'\nfile = 'a.wav'\nsubstreams = 2\n\
         [[stream]]\ndirection = 'playback'\nhost = 'file'\nfile = 'b.wav'\ndevice = 1\n\
         substreams = 2\n",
    );
    let line = [
        "--host",
        "file",
        "--playback-file",
        "a.wav",
        "--playback-file",
        "b.wav",
    ];
    let line = [&line[..], &["--substreams", "2"]].concat();
    let printed = checked(&folder, &line);
    assert!(printed.contains("stream 3: playback device 1, substream 1: file b-2.wav\n"));
    assert_eq!(printed, checked(&folder, &["--card", "card.toml"]));
}

#[test]
fn a_wrong_card_file_ends_the_program_with_its_line() {
    let wrong = [
        (
            "[[stream]]\ndirection = 'sideways'\n",
            2,
            "`playback` or `capture`",
        ),
        ("\n[[stream]\n", 2, "expected"),
        (
            "[[stream]]\nhost = 'null'\n",
            1,
            "missing field `direction`",
        ),
        (
            "[[stream]]\ndirection = 'capture'\nhost = 'null'\ncard = 1\n",
            4,
            "unknown field",
        ),
        (
            "[[stream]]\ndirection = 'capture'\nhost = 'null'\nrates = [1]\n",
            4,
            "48000",
        ),
        ("", 1, "no stream"),
    ];
    for (text, line, word) in wrong {
        let folder = folder_with(text);
        let place = format!("card.toml:{line}: ");
        for end in [&["--check"][..], &["--socket-path", "socket"]] {
            let arguments = [end, &["--card", "card.toml"]].concat();
            fails_with(&folder, &arguments, &[&place, word]);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    fails_with(
        &folder,
        &["--check", "--card", "none.toml"],
        &["none.toml: No such file"],
    );
}

#[test]
fn a_stream_that_would_offer_nothing_is_refused() {
    let folder = folder_with(
        "[[stream]]\ndirection = 'playback'\nhost = 'file'\nfile = 'a.wav'\nformats = ['S8']\n",
    );
    let words = ["stream 0", "a.wav", "formats S8", "it has MU_LAW"];
    fails_with(&folder, &["--check", "--card", "card.toml"], &words);
}

#[test]
fn options_that_a_card_file_replaces_are_refused() {
    let options = [
        "--host=null",
        "--playback-device=x",
        "--capture-device=x",
        "--playback-file=x",
        "--capture-file=x",
        "--devices=1",
        "--substreams=1",
        "--formats=S16",
        "--rates=8000",
        "--channels=1",
        "--controls=none",
    ];
    for option in options {
        let name = option.split('=').next().unwrap();
        is_wrong_usage(
            &["--check", "--card", "card.toml", option],
            &["--card", name, "cannot be used with"],
        );
    }
}

#[test]
fn two_files_of_one_name_are_refused_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let line = [
        "--host",
        "file",
        "--playback-file",
        "a.wav",
        "--playback-file",
        "a.wav",
    ];
    fails_with(
        &folder,
        &[&["--check"], &line[..]].concat(),
        &["a.wav", "of its own"],
    );
    let line = [
        "--host",
        "file",
        "--playback-file",
        "a.wav",
        "--playback-file",
        "a-2.wav",
    ];
    let line = [&["--check"], &line[..], &["--substreams", "2"]].concat();
    fails_with(&folder, &line, &["a-2.wav", "of its own"]);
}

#[test]
fn counts_of_devices_and_substreams_have_limits() {
    for option in [
        "--devices=0",
        "--devices=33",
        "--substreams=0",
        "--substreams=33",
    ] {
        is_wrong_usage(
            &["--check", option],
            &[option.split('=').next().unwrap(), "1..=32"],
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let line = [
        "--check",
        "--host",
        "file",
        "--playback-file",
        "a.wav",
        "--devices",
        "2",
    ];
    fails_with(&folder, &line, &["--devices", "--host file"]);
}

#[test]
fn the_loop_example_is_served() {
    let example = examples().remove(0);
    let folder = tempfile::tempdir().unwrap();
    fs::copy(example, folder.path().join("loop.toml")).unwrap();
    let device = Device::start_in(folder, &["--card", "loop.toml"]);
    let mut card = Card::attach(&device);
    let infos = card.pcm_infos(7);
    let found: Vec<_> = infos
        .iter()
        .map(|info| (info.device, info.direction))
        .collect();
    let expected = [
        (0, PLAYBACK),
        (0, PLAYBACK),
        (0, CAPTURE),
        (0, CAPTURE),
        (1, PLAYBACK),
        (2, PLAYBACK),
        (2, CAPTURE),
    ];
    assert_eq!(found, expected);
    let sound = noise(10 * 80, 1);
    card.play(4, &SMALL, &sound);
    assert!(crate::wav::read(&device.path("recorded.wav")).1 == sound);
}
