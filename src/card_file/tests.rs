// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Card files that are right, and every kind of wrong one with its line.

use super::*;
use crate::description::{Control, ControlKind, HostElement, Jack, JackKind, Stream, StreamHost};
use crate::graph_node::{GraphNode, OnCork, parse_latency};
use crate::pcm_format;
use crate::process::Process;
use crate::role::parse_role;
use crate::wire::Direction;

fn read(text: &str) -> Description {
    parse(text, Path::new("/cards/card.toml"))
        .unwrap_or_else(|fault| panic!("{}: {text}", fault.what))
}

/// The file is refused at `line`, in words that have all of `parts`.
fn is_wrong(text: &str, line: usize, parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.toml");
    std::fs::write(&path, text).unwrap();
    let error = load(&path).unwrap_err().to_string();
    let place = format!("wrong.toml:{line}: ");
    assert!(
        error.contains(&place),
        "{error} is not in line {line} of\n{text}"
    );
    for part in parts {
        assert!(error.contains(part), "no {part} in: {error}");
    }
    assert!(!error.contains('\n'), "{error}");
}

const NULL: &str = "[[stream]]\ndirection = 'playback'\nhost = 'null'\n";

/// A playback stream with one more key, in line 4.
fn with(key: &str) -> String {
    format!("{NULL}{key}\n")
}

/// A playback stream and a control element with one more key, in line 7.
fn control_with(key: &str) -> String {
    format!("{NULL}[[control]]\nname = 'Master Playback Volume'\nkind = 'volume'\n{key}\n")
}

#[test]
fn the_shortest_card_offers_all_that_its_host_has() {
    let card = read(NULL);
    let stream = Stream::new(Direction::Playback, 0, StreamHost::Null);
    assert_eq!(card.streams, [stream]);
    assert_eq!(card.jacks, []);
    let names: Vec<_> = card
        .controls
        .iter()
        .map(|control| control.name.as_str())
        .collect();
    assert_eq!(names, ["Master Playback Volume", "Master Playback Switch"]);
}

#[test]
fn every_key_of_a_stream_is_understood() {
    let card = read(
        r#"
        controls = "none"
        [[stream]]
        name = "the microphone"
        direction = "capture"
        host = "alsa"
        pcm = "hw:0,3"
        device = 5
        substreams = 2
        formats = ["S16", "s24_3le"]
        rates = [44100, 48000]
        channels = "2-6"
        channel-maps = [["FL", "FR"], ["fl", "fr", "rl", "rr"]]
        "#,
    );
    let stream = Stream {
        name: Some("the microphone".to_owned()),
        formats: vec![pcm_format::S16, pcm_format::S24_3],
        rates: vec![44_100, 48_000],
        channels: Some((2, 6)),
        channel_maps: Some(vec![vec![3, 4], vec![3, 4, 5, 6]]),
        ..Stream::new(Direction::Capture, 5, StreamHost::Alsa("hw:0,3".to_owned()))
    };
    assert_eq!(card.streams, [stream.clone(), stream]);
    assert_eq!(card.controls, []);
    assert_eq!(
        read(&with("channels = 4")).streams[0].channels,
        Some((4, 4))
    );
}

#[test]
fn every_key_of_a_node_in_pipewires_graph_is_understood() {
    let card = read(
        r#"
        [[stream]]
        direction = "playback"
        host = "pipewire"
        role = "navigation"
        node-name = "navi"
        latency = "256/48000"
        properties = { "session.suspend-timeout-seconds" = "0", "x.y" = "z" }
        target = "speakers"
        on-cork = "hold"
        substreams = 2
        [[stream]]
        direction = "capture"
        host = "pipewire"
        "#,
    );
    let node = GraphNode {
        role: Some(parse_role("Navigation").unwrap()),
        name: Some("navi".to_owned()),
        latency: Some(parse_latency("256/48000").unwrap()),
        properties: [("session.suspend-timeout-seconds", "0"), ("x.y", "z")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        target: Some("speakers".to_owned()),
        on_cork: OnCork::Hold,
    };
    let second = GraphNode {
        name: Some("navi-2".to_owned()),
        ..node.clone()
    };
    let hosts: Vec<_> = card.streams.into_iter().map(|stream| stream.host).collect();
    let expected = [node, second, GraphNode::default()].map(StreamHost::PipeWire);
    assert_eq!(hosts, expected);
}

#[test]
fn a_role_that_no_policy_knows_is_refused_with_its_line_and_the_list() {
    let node =
        |keys: &str| format!("[[stream]]\ndirection = 'playback'\nhost = 'pipewire'\n{keys}");
    let wrong = node("device = 1\nrole = 'Navigatoin'\n");
    is_wrong(
        &wrong,
        5,
        &[
            "Navigatoin",
            "bypassed",
            "Navigation",
            "Multimedia",
            "Emergency",
        ],
    );
    is_wrong(&node("latency = '5 ms'\n"), 4, &["5 ms", "256/48000"]);
    is_wrong(&node("node-name = ''\n"), 4, &["not empty"]);
    is_wrong(&node("on-cork = 'wait'\n"), 4, &["drain", "hold"]);
    let role = node("properties = { 'a' = 'b', 'media.role' = 'Made-Up' }\n");
    is_wrong(&role, 4, &["media.role", "`role`"]);
    is_wrong(&with("role = 'Navigation'"), 4, &["`role`", "pipewire"]);
    is_wrong(&node("pcm = 'hw:0'\n"), 4, &["`pcm`", "alsa"]);
}

#[test]
fn hosts_may_be_mixed_and_files_lie_beside_the_card_file() {
    let card = read(
        "[[stream]]\ndirection = 'playback'\nhost = 'file'\nfile = 'out.wav'\nsubstreams = 3\n\
         [[stream]]\ndirection = 'capture'\nhost = 'file'\nfile = '/abs/in.wav'\nsubstreams = 2\n\
         [[stream]]\ndirection = 'playback'\nhost = 'loop'\n\
         [[stream]]\ndirection = 'capture'\nhost = 'loop'\ncable = 'loop'\n\
         [[stream]]\ndirection = 'playback'\nhost = 'null'\n",
    );
    let hosts: Vec<_> = card
        .streams
        .iter()
        .map(|stream| stream.host.to_string())
        .collect();
    let expected = [
        "file /cards/out.wav",
        "file /cards/out-2.wav",
        "file /cards/out-3.wav",
        "file /abs/in.wav",
        "file /abs/in.wav",
        "loop loop",
        "loop loop",
        "null",
    ];
    assert_eq!(hosts, expected);
}

#[test]
fn controls_act_on_tables_of_streams() {
    let card = read(
        r#"
        [[stream]]
        name = "music"
        direction = "playback"
        host = "null"
        substreams = 2
        [[stream]]
        direction = "capture"
        host = "null"
        [[stream]]
        direction = "playback"
        host = "null"
        device = 1
        [[control]]
        name = "Music Playback Volume"
        kind = "volume"
        streams = ["music"]
        range-db = [-30, -0.5]
        [[control]]
        name = "Capture Source"
        kind = "source"
        mixer = { card = "hw:1", element = "Input Source", index = 1 }
        [[control]]
        name = "Everything"
        index = 2
        kind = "mute"
        streams = ["music", 2]
        "#,
    );
    let control = |name: &str, kind, direction, streams| Control {
        name: name.to_owned(),
        index: 0,
        kind,
        direction,
        streams,
        mixer: None,
    };
    let (play, capture) = (Direction::Playback, Direction::Capture);
    let volume = ControlKind::Volume(-3000, -50);
    let expected = [
        control("Music Playback Volume", volume, play, vec![0, 1]),
        Control {
            mixer: Some(HostElement {
                card: "hw:1".to_owned(),
                name: "Input Source".to_owned(),
                index: 1,
            }),
            ..control("Capture Source", ControlKind::Source, capture, vec![2])
        },
        Control {
            index: 2,
            ..control("Everything", ControlKind::Mute, play, vec![0, 1, 3])
        },
    ];
    assert_eq!(card.controls, expected);
}

#[test]
fn every_jack_is_known() {
    for (kind, name) in JackKind::ALL {
        let text = format!("{NULL}[[jack]]\nkind = '{name}'\n");
        let jack = Jack {
            kind,
            plugged: true,
            follow: None,
        };
        assert_eq!(read(&text).jacks, [jack]);
    }
    let follow = "[[jack]]\nkind = 'headphone'\nplugged = false\n\
                  follow = { card = 'hw:0', element = 'Headphone Jack' }";
    let card = read(&format!("{NULL}{follow}"));
    let element = card.jacks[0].follow.as_ref().unwrap();
    assert!(!card.jacks[0].plugged);
    assert_eq!(
        (element.name.as_str(), element.index),
        ("Headphone Jack", 0)
    );
}

#[test]
fn the_process_is_told_where_to_run_and_before_whom() {
    let told = |table: &str| read(&format!("{NULL}[process]\n{table}")).process;
    let process = told("cpus = '2,0-1'\nrt-priority = 7\n");
    let (cpus, said_by) = process.cpus.unwrap();
    assert_eq!(cpus.to_string(), "0-2");
    assert_eq!(said_by, "/cards/card.toml:5: cpus");
    assert_eq!(process.priority, Some(7));
    assert_eq!(told("rt-priority = 0").priority, Some(0));
    assert_eq!(told(""), Process::default());
    assert_eq!(read(NULL).process, Process::default());
}

#[test]
fn a_process_that_cannot_be_is_refused() {
    let is_wrong = |key: &str, parts: &[&str]| {
        is_wrong(&format!("{NULL}[process]\n{key}\n"), 5, parts);
    };
    is_wrong("cpus = ''", &["0-1,3"]);
    is_wrong("cpus = '1-0'", &["1-0: numbers of CPUs", "0-1,3"]);
    is_wrong("cpus = 1", &["expected a string"]);
    is_wrong("rt-priority = 100", &["100", "from 0 to 99"]);
    is_wrong("rt-priority = -1", &["-1", "from 0 to 99"]);
    is_wrong(
        "realtime-priority = 1",
        &["`realtime-priority`", "`rt-priority`"],
    );
}

#[test]
fn what_is_no_toml_is_refused_where_it_starts() {
    is_wrong("[[stream]]\ndirection = playback\n", 2, &[]);
    is_wrong("# a comment\n\n[[stream\n", 3, &[]);
    is_wrong(
        "[[stream]]\nhost = 'null'\nhost = 'null'\n",
        3,
        &["duplicate key"],
    );
}

#[test]
fn unknown_keys_and_tables_are_refused() {
    is_wrong("volume = 3\n", 1, &["unknown field `volume`", "stream"]);
    is_wrong("[[streams]]\n", 1, &["`streams`", "`stream`"]);
    is_wrong(&with("substream = 2"), 4, &["`substream`", "`substreams`"]);
    is_wrong(
        &control_with("range = [0, 1]"),
        7,
        &["`range`", "`range-db`"],
    );
    let jack = "[[jack]]\nkind = 'aux'\npluged = true\n";
    is_wrong(&format!("{NULL}{jack}"), 6, &["`pluged`", "`plugged`"]);
    let mixer = "mixer = { card = 'hw:0', element = 'x', numid = 3 }";
    is_wrong(&control_with(mixer), 7, &["`numid`", "`index`"]);
}

#[test]
fn keys_that_are_missing_are_named_with_the_line_of_their_table() {
    is_wrong(
        "\n[[stream]]\nhost = 'null'\n",
        2,
        &["missing field `direction`"],
    );
    is_wrong(
        "\n\n[[stream]]\ndirection = 'capture'\n",
        3,
        &["missing field `host`"],
    );
    is_wrong(
        &format!("{NULL}[[jack]]\nplugged = true\n"),
        4,
        &["missing field `kind`"],
    );
    is_wrong(
        &format!("{NULL}[[control]]\nkind = 'mute'\n"),
        4,
        &["missing field `name`"],
    );
    is_wrong(
        &control_with("mixer = { card = 'hw:0' }"),
        7,
        &["missing field `element`"],
    );
    is_wrong("# nothing\n", 1, &["no stream", "[[stream]]"]);
}

#[test]
fn words_that_do_not_exist_come_with_those_that_do() {
    let stream = "[[stream]]\ndirection = 'up'\nhost = 'null'\n";
    is_wrong(stream, 2, &["`up`", "`playback`", "`capture`"]);
    let stream = "[[stream]]\ndirection = 'playback'\nhost = 'tape'\n";
    is_wrong(
        stream,
        3,
        &["`tape`", "`null`", "`file`", "`loop`", "`alsa`"],
    );
    is_wrong("controls = 'all'\n", 1, &["`all`", "`software`", "`none`"]);
    is_wrong(&with("formats = ['S17']"), 4, &["S17", "S16_LE"]);
    is_wrong(&with("rates = [8000,\n 12345]"), 5, &["12345", "48000"]);
    is_wrong(
        &with("channel-maps = [['FL', 'FX']]"),
        4,
        &["FX", "MONO", "LFE"],
    );
    is_wrong(
        &format!("{NULL}[[jack]]\nkind = 'usb'\n"),
        5,
        &["usb", "headphone"],
    );
    is_wrong(
        &format!("{NULL}[[control]]\nname = 'x'\nkind = 'tone'\n"),
        6,
        &["`tone`", "`volume`", "`mute`", "`source`"],
    );
}

#[test]
fn numbers_out_of_range_come_with_the_range() {
    is_wrong(&with("device = -1"), 4, &["-1", "0 to 253"]);
    is_wrong(&with("device = 254"), 4, &["254", "0 to 253"]);
    is_wrong(&with("substreams = 0"), 4, &["0 is", "1 to 32"]);
    is_wrong(&with("substreams = 4294967297"), 4, &["1 to 32"]);
    is_wrong(&with("channels = 9"), 4, &["9", "1 to 8"]);
    is_wrong(&with("channels = '3-2'"), 4, &["3-2", "1-2"]);
    is_wrong(&with("channels = true"), 4, &["a number from 1 to 8"]);
    is_wrong(&with("device = 'first'"), 4, &["invalid type"]);
    is_wrong(&control_with("index = -1"), 7, &["-1"]);
    let last = "0 to 4294967294";
    is_wrong(&control_with("index = 4294967295"), 7, &[last]);
    for range in [
        "[0, -60]",
        "[-60, 21]",
        "[-101, 0]",
        "[-60]",
        "[-60, -30, 0]",
        "[nan, 0]",
    ] {
        let key = format!("range-db = {range}");
        is_wrong(&control_with(&key), 7, &["-100 to 20", "[-60, 0]"]);
    }
}

#[test]
fn lists_have_something_and_nothing_twice() {
    is_wrong(&with("formats = []"), 4, &["empty"]);
    is_wrong(
        &with("formats = ['S16', 'S16_LE']"),
        4,
        &["S16_LE", "already"],
    );
    is_wrong(&with("rates = [8000, 8000]"), 4, &["8000", "already"]);
    is_wrong(&with("channel-maps = [['FL'], ['FL']]"), 4, &["already"]);
    is_wrong(&control_with("streams = []"), 7, &["empty"]);
    is_wrong(&control_with("streams = [0, 0]"), 7, &["already"]);
}

#[test]
fn channel_maps_have_as_many_channels_as_the_stream() {
    let map = "channels = 2\nchannel-maps = [['FL', 'FR'],\n ['MONO']]";
    is_wrong(&with(map), 6, &["1 channels", "2 to 2"]);
    is_wrong(&with("channel-maps = [[]]"), 4, &["0 channels", "1 to 8"]);
}

#[test]
fn keys_of_other_hosts_are_refused_and_needed_ones_asked_for() {
    is_wrong(&with("pcm = 'hw:0'"), 4, &["`pcm`", "\"alsa\""]);
    is_wrong(&with("file = 'x.wav'"), 4, &["`file`", "\"file\""]);
    is_wrong(&with("cable = 'x'"), 4, &["`cable`", "\"loop\""]);
    let stream = |host: &str| format!("[[stream]]\ndirection = 'capture'\nhost = {host}\n");
    is_wrong(&stream("'alsa'"), 3, &["`pcm`", "hw:0,0"]);
    is_wrong(&stream("'file'"), 3, &["`file`", "out.wav"]);
    is_wrong(&stream("'file'\nfile = '..'"), 4, &["names no file"]);
    is_wrong(&stream("'alsa'\npcm = ''"), 4, &["empty"]);
    is_wrong(&stream("'loop'\ncable = ''"), 4, &["empty"]);
}

#[test]
fn two_streams_do_not_write_one_file() {
    let player = "[[stream]]\ndirection = 'playback'\nhost = 'file'\n";
    let text = format!("{player}file = 'a.wav'\nsubstreams = 2\n{player}file = 'a-2.wav'\n");
    is_wrong(&text, 9, &["a-2.wav", "[[stream]] 0"]);
}

#[test]
fn names_of_streams_are_different_and_can_be_printed() {
    is_wrong(&with("name = ''"), 4, &["not empty"]);
    is_wrong(&with("name = \"a\\tb\""), 4, &["one line"]);
    let twice = with("name = 'a'").repeat(2);
    is_wrong(&twice, 8, &["\"a\" already"]);
}

#[test]
fn a_cable_has_two_ends() {
    let player = "[[stream]]\ndirection = 'playback'\nhost = 'loop'\ncable = 'a'\n";
    is_wrong(
        &format!("{NULL}{player}"),
        6,
        &["\"a\"", "1 playback and 0 capture"],
    );
}

#[test]
fn controls_name_streams_that_exist_and_fit() {
    is_wrong(
        &control_with("streams = [1]"),
        7,
        &["no [[stream]] 1", "0 to 0"],
    );
    is_wrong(&control_with("streams = [-1]"), 7, &["no [[stream]] -1"]);
    is_wrong(
        &control_with("direction = 'capture'"),
        5,
        &["no capture stream"],
    );
    let both = format!("{NULL}[[stream]]\ndirection = 'capture'\nhost = 'null'\n");
    let mixed = "[[control]]\nname = 'x'\nkind = 'mute'\nstreams = [0, 1]\n";
    is_wrong(&format!("{both}{mixed}"), 10, &["playback streams"]);
    is_wrong(
        &control_with("streams = [0]\ndirection = 'capture'"),
        7,
        &["capture streams"],
    );
}

#[test]
fn names_of_elements_are_those_that_alsa_takes() {
    let named = |name: &str| format!("{NULL}[[control]]\nkind = 'mute'\nname = '{name}'\n");
    is_wrong(&named(&"n".repeat(44)), 6, &["44 bytes", "43"]);
    is_wrong(&named(&"ä".repeat(22)), 6, &["44 bytes"]);
    is_wrong(&named(""), 6, &["empty"]);
    is_wrong(
        &named("").replace("''", "\"a\\nb\""),
        6,
        &["cannot be printed"],
    );
    is_wrong(&named("Größe"), 6, &["ASCII"]);
    read(&named(&"n".repeat(43)));
    let twice = format!("{}[[control]]\nname = 'x'\nkind = 'mute'\n", named("x"));
    is_wrong(&twice, 8, &["[[control]] 0", "'x'"]);
    let mixer = |element| format!("mixer = {{ card = 'hw:0', element = '{element}' }}");
    is_wrong(&control_with(&mixer(&"n".repeat(44))), 7, &["44 bytes"]);
    is_wrong(
        &control_with("mixer = { card = '', element = 'x' }"),
        7,
        &["empty"],
    );
}

#[test]
fn keys_that_contradict_each_other_are_refused() {
    is_wrong(
        &format!("controls = 'none'\n{}", control_with("")),
        1,
        &["[[control]]"],
    );
    let mixer = "mixer = { card = 'hw:0', element = 'Master' }\nrange-db = [-60, 0]";
    is_wrong(&control_with(mixer), 8, &["`range-db`"]);
    let muted = "[[control]]\nname = 'x'\nkind = 'mute'\nrange-db = [-60, 0]\n";
    is_wrong(&format!("{NULL}{muted}"), 7, &["`range-db`", "volume"]);
    let source = "[[control]]\nname = 'x'\nkind = 'source'\n";
    is_wrong(&format!("{NULL}{source}"), 6, &["`mixer`"]);
}

#[test]
fn a_card_has_a_limit() {
    let many = format!("{NULL}substreams = 32\n").repeat(5);
    is_wrong(&many, 17, &["128 streams"]);
    let jacks = "[[jack]]\nkind = 'aux'\n".repeat(129);
    is_wrong(&format!("{NULL}{jacks}"), 4 + 2 * 128, &["128 jacks"]);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = load(Path::new("/nonexistent/card.toml")).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/nonexistent/card.toml: No such file")
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("card.toml");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("card.toml: "));
}

/// What the refusal of a key that does not exist says that there is.
fn known_keys(text: &str) -> Vec<String> {
    let what = parse(text, Path::new("")).unwrap_err().what;
    let names = what.split('`').skip(3).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn the_manual_has_every_key_of_every_table_and_no_other() {
    let manual = include_str!("manual.roff").replace("\\-", "-");
    let section = |title: &str| {
        let rest = manual.split(&format!(".SS \"{title}\"\n")).nth(1).unwrap();
        rest.split("\n.SS").next().unwrap()
    };
    for table in ["[process]", "[[stream]]", "[[control]]", "[[jack]]"] {
        let mut keys = known_keys(&format!("{table}\nnothing = 1"));
        let entries = section(table).split(".TP\n.BR ").skip(1);
        let mut described: Vec<_> = entries
            .map(|entry| entry.split(' ').next().unwrap().to_owned())
            .collect();
        keys.sort();
        described.sort();
        assert_eq!(keys, described, "{table}");
    }
    let mixer = known_keys(&control_with("mixer = { nothing = 1 }"));
    assert_eq!(mixer.len(), 3);
    for key in mixer {
        assert!(
            section("[[control]]").contains(&format!("{key} = ")),
            "{key}"
        );
    }
    for (_, name) in JackKind::ALL {
        assert!(section("[[jack]]").contains(name), "{name}");
    }
}
