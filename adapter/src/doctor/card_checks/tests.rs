// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use serde_json::{Value, json};

use super::super::finding::Verdict;
use super::super::limits::Realtime;
use super::*;
use crate::device_answer::{AskError, DeviceAnswer};
use crate::driver::sysfs::AlsaCard;

fn answering(answer: Result<Value, AskError>) -> Option<DeviceAnswer> {
    Some(DeviceAnswer {
        socket: "/run/virtio-loopback/music.commands".into(),
        process: Some(77),
        answer,
    })
}

fn music() -> Card {
    let stream =
        json!({"direction": "playback", "host": "alsa hw:0,0", "state": "running", "gaps": 0});
    Card {
        name: "music".into(),
        is_sound: true,
        state: Some("live".into()),
        attached: true,
        driver: Some("virtio_snd".into()),
        alsa: Some(AlsaCard {
            number: 2,
            id: "music".into(),
        }),
        answer: answering(Ok(json!({"streams": [stream]}))),
        ..Card::default()
    }
}

fn with(change: impl FnOnce(&mut Card)) -> Vec<Finding> {
    let mut card = music();
    change(&mut card);
    checks(&card, &WirePlumber::default())
}

/// The finding of one check.
fn one(findings: &[Finding], check: &str) -> Finding {
    let mut found = findings.iter().filter(|finding| finding.check == check);
    let finding = found.next().unwrap_or_else(|| panic!("no {check}"));
    assert_eq!(finding.card.as_deref(), Some("music"));
    finding.clone()
}

#[test]
fn a_card_that_plays_is_right() {
    let findings = with(|_| {});
    let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
    assert_eq!(
        checks,
        ["state", "adapter", "process", "host", "sound server"]
    );
    for finding in &findings {
        assert_eq!(finding.verdict, Verdict::Ok, "{finding:?}");
    }
    assert_eq!(
        one(&findings, "host").text,
        "playback: alsa hw:0,0, running"
    );
}

#[test]
fn each_state_has_its_verdict() {
    let state = |state: &str, driver: bool| {
        let findings = with(|card| {
            card.state = Some(state.into());
            card.driver = driver.then(|| "virtio_snd".into());
        });
        one(&findings, "state")
    };
    assert_eq!(state("quiesced", true).verdict, Verdict::Wrong);
    assert_eq!(
        state("idle", false).mend.as_deref(),
        Some("modprobe virtio_snd")
    );
    assert!(state("idle", true).text.contains("has not started it"));
    assert_eq!(state("starting", true).verdict, Verdict::Warn);
    let fuser = "fuser -v /dev/snd/*C2 /dev/snd/*C2D*";
    assert_eq!(state("dying", true).mend.as_deref(), Some(fuser));
    assert_eq!(state("new", true).verdict, Verdict::Wrong);
    let findings = with(|card| {
        card.state = Some("idle".into());
        card.driver = None;
        card.driver_is_loaded = true;
    });
    let given_up = one(&findings, "state");
    assert_eq!(given_up.mend.as_deref(), Some("dmesg | grep -i virtio"));
    let findings = with(|card| card.alsa = None);
    assert!(one(&findings, "state").text.contains("no sound card"));
}

#[test]
fn who_starts_a_card_can_start_it_again() {
    let command = |started_by| {
        let findings = with(|card| {
            card.state = None;
            card.started_by = started_by;
        });
        assert_eq!(
            findings.len(),
            1,
            "of a card that is not there nothing else is known"
        );
        one(&findings, "state")
    };
    let system = command(StartedBy::System);
    let restart = "systemctl restart virtio-loopback@music";
    assert_eq!(system.mend.as_deref(), Some(restart));
    assert!(system.as_root);
    let user = command(StartedBy::User);
    let restart = "systemctl --user restart virtio-loopback@music";
    assert_eq!(user.mend.as_deref(), Some(restart));
    assert!(!user.as_root);
    let hand = command(StartedBy::Hand);
    assert_eq!(hand.mend, None, "how it was started is not known");
    assert!(
        hand.text.contains("virtio-loopback run --name music"),
        "{}",
        hand.text
    );
}

#[test]
fn nobody_attached_and_nobody_there_are_told_apart() {
    let findings = with(|card| card.attached = false);
    assert_eq!(one(&findings, "adapter").verdict, Verdict::Warn);
    let silent = with(|card| card.answer = answering(Err(AskError::Silent)));
    let silent = one(&silent, "process");
    assert_eq!(silent.verdict, Verdict::Wrong);
    assert!(silent.text.contains("no answer within"), "{}", silent.text);
    let secret = with(|card| card.answer = answering(Err(AskError::NotAllowed)));
    let secret = one(&secret, "process");
    assert_eq!(secret.verdict, Verdict::NotApplicable);
    assert!(secret.mend.is_none() && secret.text.contains("group virtio-loopback"));
    let untold = with(|card| card.answer = None);
    assert_eq!(one(&untold, "process").verdict, Verdict::NotApplicable);
}

#[test]
fn a_host_that_is_away_or_has_holes_is_told() {
    let host = |stream: Value| {
        let answer = json!({"streams": [stream, {"direction": "capture"}]});
        let findings = with(|card| card.answer = answering(Ok(answer)));
        one(&findings, "host")
    };
    let away = host(json!({"direction": "playback", "host": "alsa hw:0", "away": true}));
    assert_eq!(away.verdict, Verdict::Warn);
    assert!(away.text.contains("busy or away"), "{}", away.text);
    let holes = host(json!({"host": "alsa hw:0", "state": "running", "gaps": 3}));
    assert!(holes.text.contains("3 holes"), "{}", holes.text);
}

#[test]
fn a_role_must_be_one_that_the_policy_knows() {
    let role = |host: &str, role: Option<&str>| {
        let answer = json!({"streams": [{"host": host, "role": role}]});
        let mut card = music();
        card.answer = answering(Ok(answer));
        let mut wireplumber = WirePlumber::default();
        wireplumber.roles = vec!["Music".into(), "Navigation".into()];
        let findings = checks(&card, &wireplumber);
        findings.into_iter().find(|finding| finding.check == "role")
    };
    assert_eq!(
        role("pipewire", Some("Music")).unwrap().verdict,
        Verdict::Ok
    );
    assert_eq!(role("pipewire", None).unwrap().verdict, Verdict::Ok);
    let unknown = role("pipewire sink", Some("Musik")).unwrap();
    assert_eq!(unknown.verdict, Verdict::Wrong);
    assert!(
        unknown.text.contains("Music, Navigation"),
        "{}",
        unknown.text
    );
    assert_eq!(role("alsa hw:0", Some("Musik")), None, "no policy sees it");
}

#[test]
fn a_sound_server_that_has_the_card_is_told() {
    let findings = with(|card| card.taken_by = Some(71));
    let taken = one(&findings, "sound server");
    assert_eq!(taken.verdict, Verdict::Warn);
    assert!(taken.text.contains("process 71"), "{}", taken.text);
}

#[test]
fn real_time_is_that_of_the_device_process() {
    let findings = with(|card| card.realtime = Some(Realtime::default()));
    assert!(one(&findings, "real-time").text.contains("process 77"));
}

#[test]
fn a_device_that_is_no_card_has_no_sound() {
    let findings = with(|card| {
        card.is_sound = false;
        card.alsa = None;
        card.realtime = Some(Realtime::default());
    });
    let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
    assert_eq!(checks, ["state", "adapter", "process"]);
    assert_eq!(one(&findings, "state").text, "live, virtio_snd");
}
