// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Devices for people: all in a list, and one in detail.

use comfy_table::{ContentArrangement, Table, presets};

use super::report::Report;
use super::stream::{Stream, printable};
use crate::driver::State;

/// `list` for people.
pub fn list_table(reports: &[Report]) -> String {
    if reports.is_empty() {
        return "no loopback devices (virtio-loopback run creates one)".into();
    }
    let mut table = table();
    table.set_header(["NAME", "DEVICE", "STATE", "DRIVER", "ALSA CARD", "ADAPTER"]);
    for report in reports {
        table.add_row([
            report.name.clone(),
            format!("{} ({})", report.device, report.device_id),
            report.state.to_string(),
            report.driver.clone().unwrap_or("-".into()),
            card(report),
            attached(report).into(),
        ]);
    }
    render(table)
}

/// `status NAME` for people.
pub fn status_table(report: &Report) -> String {
    let mut table = table();
    for (label, value) in details(report) {
        table.add_row([label, value]);
    }
    for (name, value) in &report.counters {
        table.add_row([name.replace('_', " "), value.to_string()]);
    }
    render(table)
}

fn details(report: &Report) -> Vec<(String, String)> {
    let device = format!("{} (virtio device {})", report.device, report.device_id);
    let buffers = if report.zero_copy {
        "mapped in place"
    } else {
        "bounced"
    };
    let mut rows = vec![
        ("name", report.name.clone()),
        ("device", device),
        ("state", format!("{} - {}", report.state, explain(report))),
        ("driver", report.driver.clone().unwrap_or("none".into())),
        (
            "virtio device",
            report.virtio_device.clone().unwrap_or("-".into()),
        ),
    ];
    if report.device == "sound" {
        rows.push(("ALSA card", card(report)));
    }
    rows.push(("adapter", attached(report).into()));
    if report.device_process.is_some() {
        rows.push(("device process", process(report)));
    }
    rows.extend(
        report
            .streams()
            .iter()
            .map(|stream| ("stream", describe(stream))),
    );
    rows.extend([
        ("queues", report.queues.to_string()),
        ("buffers", buffers.into()),
        ("memory", format!("{} KiB", report.memory_size / 1024)),
        ("features", format!("{:#x}", report.features)),
        ("accepted", format!("{:#x}", report.driver_features)),
    ]);
    let rows = rows.into_iter();
    rows.map(|(label, value)| (label.to_owned(), value))
        .collect()
}

fn card(report: &Report) -> String {
    report.alsa_card.as_ref().map_or("-".into(), |card| {
        format!("{} (hw:{})", card.number, card.id)
    })
}

fn attached(report: &Report) -> &'static str {
    if report.attached { "attached" } else { "-" }
}

/// Who serves the device, or why it does not say.
fn process(report: &Report) -> String {
    let Some(answer) = &report.device_process else {
        return "-".into();
    };
    match (&answer.answer, answer.process) {
        (Ok(_), Some(id)) => format!("process {id}"),
        (Ok(_), None) => "answers".into(),
        (Err(error), _) => printable(&error.to_string()),
    }
}

/// "playback, alsa hw:0,0, running, Music, 48000 Hz, 0 xruns"
fn describe(stream: &Stream) -> String {
    let rate = stream.rate.map(|rate| format!("{rate} Hz"));
    let gaps = stream.gaps.map(|gaps| format!("{gaps} xruns"));
    let parts = [&stream.host, &stream.state, &stream.role, &rate, &gaps];
    let parts = parts.into_iter().flatten().map(String::as_str);
    let parts: Vec<_> = [stream.name.as_str()].into_iter().chain(parts).collect();
    parts.join(", ")
}

/// What a person should know beside the overview: a line for each device that is not well.
pub fn notes(reports: &[Report]) -> Vec<String> {
    let of = |report: &Report| {
        let answer = report.device_process.as_ref();
        let silent = answer.is_some_and(|answer| answer.answer.is_err());
        if report.state != State::Live {
            Some(format!("{}: {}", report.name, explain(report)))
        } else if silent {
            Some(format!(
                "{}: its device process: {}",
                report.name,
                process(report)
            ))
        } else if !report.attached {
            Some(format!(
                "{}: plays on without an adapter{}",
                report.name,
                attach(report)
            ))
        } else {
            None
        }
    };
    reports.iter().filter_map(of).collect()
}

fn attach(report: &Report) -> String {
    format!(" (virtio-loopback run --name {})", report.name)
}

fn explain(report: &Report) -> String {
    match report.state {
        State::Idle if report.driver.is_none() => {
            format!("no driver has taken it ({})", report.driver_advice)
        }
        State::Idle => "the driver has not started it".into(),
        State::Starting => "waiting for the device process".into(),
        State::Live => "served".into(),
        State::Quiesced => format!("in use, but no process serves it{}", attach(report)),
        State::Stopping => "the driver has reset it".into(),
        State::Dying => "being destroyed, an application has it open".into(),
        State::Unknown => "reported by a newer kernel module".into(),
    }
}

/// The lines of a table, without spaces at their ends.
pub(super) fn render(mut table: Table) -> String {
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.trim_fmt()
}

/// An empty table without lines.
pub(super) fn table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::report::tests::{answering, report};
    use super::*;
    use crate::device_answer::AskError;

    fn has(text: &str, label: &str, value: &str) -> bool {
        text.lines().any(|line| {
            line.trim()
                .strip_prefix(label)
                .is_some_and(|rest| rest.trim() == value)
        })
    }

    #[test]
    fn a_list_has_a_line_for_each_device() {
        let text = list_table(&[report(), report()]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let words: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(
            words,
            [
                "music",
                "sound",
                "(25)",
                "live",
                "yes",
                "2",
                "(hw:music)",
                "attached"
            ],
            "{text}"
        );
        assert!(list_table(&[]).contains("no loopback devices"));
    }

    #[test]
    fn a_status_names_card_and_counters() {
        let text = status_table(&report());
        assert!(has(&text, "ALSA card", "2 (hw:music)"), "{text}");
        assert!(has(&text, "kicks", "17"), "{text}");
        assert!(has(&text, "state", "live - served"), "{text}");
        assert!(has(&text, "memory", "1024 KiB"), "{text}");
        assert!(!text.contains("device process"), "{text}");
    }

    #[test]
    fn a_status_tells_what_the_device_process_says() {
        let stream = json!({"direction": "playback", "host": "null", "state": "idle", "gaps": 0});
        let text = status_table(&answering(json!({"streams": [stream]})));
        assert!(has(&text, "device process", "process 77"), "{text}");
        assert!(
            has(&text, "stream", "playback, null, idle, 0 xruns"),
            "{text}"
        );
        let mut report = answering(json!({}));
        if let Some(process) = &mut report.device_process {
            process.answer = Err(AskError::Refused("\x1b[2J".into()));
        }
        let text = status_table(&report);
        assert!(has(&text, "device process", "it refuses: [2J"), "{text}");
    }

    #[test]
    fn a_state_says_what_to_do() {
        let mut report = report();
        assert!(notes(std::slice::from_ref(&report)).is_empty());
        report.state = State::Quiesced;
        assert!(explain(&report).contains("virtio-loopback run --name music"));
        (report.state, report.driver) = (State::Idle, None);
        assert!(explain(&report).contains("modprobe virtio_snd"));
        assert!(notes(&[report])[0].contains("modprobe virtio_snd"));
    }

    #[test]
    fn notes_are_for_what_is_not_well() {
        let note = |change: fn(&mut Report)| {
            let mut report = answering(json!({}));
            change(&mut report);
            notes(&[report]).join("\n")
        };
        assert_eq!(note(|_| {}), "");
        assert!(note(|report| report.attached = false).contains("without an adapter"));
        let silent = note(|report| {
            if let Some(process) = &mut report.device_process {
                process.answer = Err(AskError::Silent);
            }
        });
        assert_eq!(
            silent,
            "music: its device process: no answer within 1000 ms"
        );
    }
}
