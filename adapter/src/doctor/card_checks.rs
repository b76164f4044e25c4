// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Checks of one card: who serves it, what that plays on, and who else has taken it.

use super::cards::{Card, StartedBy};
use super::finding::Finding;
use super::limits;
use super::wireplumber::WirePlumber;
use crate::device_answer::AskError;

/// All checks of a card.
pub(super) fn checks(card: &Card, wireplumber: &WirePlumber) -> Vec<Finding> {
    let mut findings = vec![state(card)];
    if card.state.is_some() {
        findings.extend([adapter(card), process(card)]);
        if card.is_sound {
            findings.extend(host(card));
            findings.extend(role(card, wireplumber));
            findings.push(hidden(card));
        }
        findings.extend(realtime(card));
    }
    for finding in &mut findings {
        finding.card = Some(card.name.clone());
    }
    findings
}

/// With what starts a card, or starts it again: a command, where that is known whole.
fn start(card: &Card, finding: Finding) -> Finding {
    let name = &card.name;
    match card.started_by {
        StartedBy::System => finding.mended_by(format!("systemctl restart virtio-loopback@{name}")),
        StartedBy::User => {
            finding.mended_by_user(format!("systemctl --user restart virtio-loopback@{name}"))
        }
        StartedBy::Hand => Finding {
            text: format!(
                "{}; start it again as before: virtio-loopback run --name {name} ...",
                finding.text
            ),
            ..finding
        },
    }
}

fn state(card: &Card) -> Finding {
    const CHECK: &str = "state";
    let alsa = card.alsa.as_ref();
    let driver = card.driver.as_deref().unwrap_or("no driver");
    match card.state.as_deref() {
        None => {
            let text = "there is a card file, but no card";
            start(card, Finding::warn(CHECK, text))
        }
        Some("live") if card.is_sound && alsa.is_none() => {
            let text =
                format!("{driver} has it, but has made no sound card: the kernel log says why");
            Finding::wrong(CHECK, text).mended_by("dmesg | grep virtio_snd")
        }
        Some("live") => match alsa {
            Some(alsa) => Finding::ok(CHECK, format!("live, hw:{}", alsa.id)),
            None => Finding::ok(CHECK, format!("live, {driver}")),
        },
        Some("quiesced") => {
            let text = "an application has it, but no process serves it";
            start(card, Finding::wrong(CHECK, text))
        }
        Some("idle") if card.driver.is_none() && card.is_sound && card.driver_is_loaded => {
            let text = "virtio_snd is loaded and has not taken it: the kernel log may say why";
            Finding::wrong(CHECK, text).mended_by("dmesg | grep -i virtio")
        }
        Some("idle") if card.driver.is_none() && card.is_sound => {
            let text = "no driver has taken it";
            Finding::wrong(CHECK, text).mended_by("modprobe virtio_snd")
        }
        Some("idle") if card.driver.is_none() => {
            Finding::wrong(CHECK, "no driver has taken it: load the one of its type")
        }
        Some(state @ ("starting" | "stopping")) => {
            Finding::warn(CHECK, format!("{state}: look again in a moment"))
        }
        Some("dying") => {
            let text = "destroyed, but an application still has it open";
            let finding = Finding::warn(CHECK, text);
            match alsa {
                Some(alsa) => finding.mended_by(format!(
                    "fuser -v /dev/snd/*C{0} /dev/snd/*C{0}D*",
                    alsa.number
                )),
                None => finding,
            }
        }
        Some(state) => Finding::wrong(CHECK, format!("{state}: the driver has not started it")),
    }
}

fn adapter(card: &Card) -> Finding {
    const CHECK: &str = "adapter";
    if card.attached {
        return Finding::ok(CHECK, "attached");
    }
    let text = "none: what plays goes on, but a driver that starts anew is not served";
    start(card, Finding::warn(CHECK, text))
}

fn process(card: &Card) -> Finding {
    const CHECK: &str = "process";
    let Some(answer) = &card.answer else {
        let text = format!(
            "nothing is known of it: it takes no commands at /run/virtio-loopback/{}.commands \
             (--command-socket)",
            card.name
        );
        return Finding::not_applicable(CHECK, text);
    };
    let who = match answer.process {
        Some(id) => format!("process {id}"),
        None => "the device process".into(),
    };
    match &answer.answer {
        Ok(_) => Finding::ok(CHECK, format!("{who} answers")),
        Err(error @ AskError::NotAllowed) => Finding::not_applicable(CHECK, error.to_string()),
        Err(error) => {
            let error = crate::inspect::printable(&error.to_string());
            start(card, Finding::wrong(CHECK, format!("{who}: {error}")))
        }
    }
}

/// What it plays on: a line for each stream that tells.
fn host(card: &Card) -> Vec<Finding> {
    const CHECK: &str = "host";
    let of = |stream: crate::inspect::Stream| {
        let (name, host) = (&stream.name, stream.host.as_deref()?);
        let state = stream.state.as_deref().unwrap_or("unknown");
        Some(match (stream.away, stream.gaps) {
            (true, _) => Finding::warn(
                CHECK,
                format!("{name}: {host} is busy or away, silence has its place until it is back"),
            ),
            (false, Some(gaps)) if gaps > 0 => Finding::warn(
                CHECK,
                format!("{name}: {host}, {state}, {gaps} holes in the sound since it started"),
            ),
            _ => Finding::ok(CHECK, format!("{name}: {host}, {state}")),
        })
    };
    card.streams().into_iter().filter_map(of).collect()
}

/// Whether the policy knows what the card says it is for.
fn role(card: &Card, wireplumber: &WirePlumber) -> Option<Finding> {
    const CHECK: &str = "role";
    let on_pipewire = |stream: &crate::inspect::Stream| {
        let host = stream.host.as_deref().unwrap_or_default();
        host.starts_with("pipewire")
    };
    let role = card.role();
    if wireplumber.roles.is_empty() || !card.streams().iter().any(on_pipewire) {
        return None;
    }
    Some(match role {
        None => Finding::ok(CHECK, "none: it counts as Multimedia"),
        Some(role) if wireplumber.roles.contains(&role) => Finding::ok(CHECK, role),
        Some(role) => {
            let text = format!(
                "the policy does not know {role} and lets it pass: set role to one of {}",
                wireplumber.roles.join(", ")
            );
            Finding::wrong(CHECK, text)
        }
    })
}

fn hidden(card: &Card) -> Finding {
    const CHECK: &str = "sound server";
    match card.taken_by {
        None => Finding::ok(CHECK, "no WirePlumber has opened the card"),
        Some(process) => {
            let text = format!(
                "WirePlumber (process {process}) has taken the card as a sink; with a rule that hides \
                 it (see wireplumber above) it lets go when it starts again"
            );
            let command = "systemctl --user restart wireplumber";
            Finding::warn(CHECK, text).mended_by_user(command)
        }
    }
}

fn realtime(card: &Card) -> Option<Finding> {
    let process = card.answer.as_ref()?.process?;
    let realtime = card.realtime.as_ref()?;
    card.is_sound.then(|| limits::of_card(realtime, process))
}

#[cfg(test)]
mod tests;
