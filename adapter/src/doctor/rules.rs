// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Checks of the files that udev and modprobe read.

use super::access::rules_again;
use super::finding::Finding;
use super::machine::{Configuration, Machine};

/// Where udev looks, first things first.
const UDEV_FOLDERS: &[&str] = &[
    "/etc/udev/rules.d",
    "/run/udev/rules.d",
    "/usr/local/lib/udev/rules.d",
    "/usr/lib/udev/rules.d",
    "/lib/udev/rules.d",
];
/// The same for modprobe.
pub(super) const MODPROBE_FOLDERS: &[&str] = &[
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];
/// The driver's own shortest period, in milliseconds.
const PERIOD_OF_DRIVER: u32 = 10;
const PERIOD: &str = "pcm_period_ms_min";

/// What udev and modprobe are told about cards of ours.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// udevd runs.
    udevd: bool,
    /// The rules for the control file and the names of cards.
    names: bool,
    /// The rule for a new card's volume.
    volume: bool,
    /// alsactl, which that rule replaces the orders of, is installed.
    alsactl: bool,
    /// A rule that hides the cards from sound servers.
    pub(super) hides: Option<String>,
    /// The shortest period as the driver has it now.
    period_now: Option<u32>,
    /// The shortest period as modprobe will set it.
    period_set: Option<u32>,
    /// Commands that put our files in place.
    copies: [String; 3],
}

impl Rules {
    pub(super) fn of(machine: &Machine) -> Self {
        let rules = machine.configuration(UDEV_FOLDERS, ".rules");
        let any = |words: &[&str]| file_with(&rules, words).is_some();
        let parameter = machine.text(&format!("/sys/module/virtio_snd/parameters/{PERIOD}"));
        let options = machine.configuration(MODPROBE_FOLDERS, ".conf");
        let copy =
            |file: &str, folder: &str, name: &str| machine.copy(file, &format!("{folder}/{name}"));
        let of_udev = |name: &str| copy(&format!("udev/{name}"), "/etc/udev/rules.d", name);
        let modprobe = copy(
            "modprobe.d/virtio-loopback.conf",
            "/etc/modprobe.d",
            "virtio-loopback.conf",
        );
        Self {
            udevd: machine.exists("/run/udev/control"),
            names: any(&["KERNEL==\"virtio-loopback\"", "GROUP="]) && any(&[OF_OURS, "ATTR{id}="]),
            volume: any(&[OF_OURS, "alsactl"]),
            alsactl: machine.exists("/usr/sbin/alsactl"),
            hides: file_with(&rules, &[OF_OURS, "ENV{ACP_IGNORE}=\"1\""]).map(str::to_owned),
            period_now: parameter.and_then(|text| text.parse().ok()),
            period_set: options.iter().find_map(period_in),
            copies: [
                of_udev("60-virtio-loopback.rules"),
                of_udev("91-virtio-loopback.rules"),
                modprobe,
            ],
        }
    }
}

/// In a rule: a device below one of ours.
const OF_OURS: &str = "SUBSYSTEMS==\"virtio-loopback\"";

/// The file with a line that has all of these.
fn file_with<'a>(files: &'a [Configuration], words: &[&str]) -> Option<&'a str> {
    let has_all = |line: &str| words.iter().all(|word| line.contains(word));
    let mut files = files.iter().filter(|file| file.text.lines().any(has_all));
    files.next().map(|file| file.path.as_str())
}

/// "options virtio_snd pcm_period_ms_min=1"
fn period_in(file: &Configuration) -> Option<u32> {
    let of_line = |line: &str| {
        let options = line.trim().strip_prefix("options")?.trim_start();
        let options = options.strip_prefix("virtio_snd")?.split_whitespace();
        let mut values = options.filter_map(|word| word.strip_prefix(PERIOD)?.strip_prefix('='));
        values.next()?.parse().ok()
    };
    file.text.lines().find_map(of_line)
}

/// Whether udev gives devices and cards their groups and names.
pub(super) fn names(rules: &Rules) -> Finding {
    const CHECK: &str = "udev";
    let [copy, ..] = &rules.copies;
    if !rules.names {
        let text = "no udev rule gives members of the group access and cards their names";
        return Finding::wrong(CHECK, text).mended_by(then_reload(copy));
    }
    if !rules.udevd {
        let text = "udevd does not run: its rules do nothing";
        return Finding::wrong(CHECK, text).mended_by("systemctl start systemd-udevd");
    }
    Finding::ok(
        CHECK,
        "rules for access and for the names of cards are in place",
    )
}

/// Whether a new card starts as loud as it should.
pub(super) fn volume(rules: &Rules) -> Finding {
    const CHECK: &str = "volume";
    let [_, copy, _] = &rules.copies;
    if rules.volume {
        Finding::ok(CHECK, "new cards start at 0 dB")
    } else if !rules.alsactl {
        Finding::not_applicable(CHECK, "nothing here turns new cards down (no alsactl)")
    } else {
        let text = "alsa-utils turns a new card down to -20 dB";
        Finding::warn(CHECK, text).mended_by(then_reload(copy))
    }
}

/// Nothing else can be done behind a command that is a person's affair.
fn then_reload(copy: &str) -> String {
    match copy.contains('#') {
        true => copy.to_owned(),
        false => format!("{copy} && {}", rules_again()),
    }
}

/// How short the periods of a card can be.
pub(super) fn period(rules: &Rules) -> Finding {
    const CHECK: &str = "period";
    let [_, _, copy] = &rules.copies;
    let file = format!("/sys/module/virtio_snd/parameters/{PERIOD}");
    match (rules.period_now, rules.period_set) {
        (Some(now), _) if now < PERIOD_OF_DRIVER => {
            Finding::ok(CHECK, format!("periods from {now} ms"))
        }
        (None, Some(set)) if set < PERIOD_OF_DRIVER => Finding::ok(
            CHECK,
            format!("periods from {set} ms once the driver is loaded"),
        ),
        (Some(now), Some(set)) if set < PERIOD_OF_DRIVER => {
            let text = format!(
                "the driver was loaded before its options were there: new cards have no periods \
                 below {now} ms"
            );
            Finding::warn(CHECK, text).mended_by(format!("echo {set} > {file}"))
        }
        (now, _) => {
            let text = "cards have no periods below 10 ms, the driver's own limit";
            let command = match now {
                Some(_) if !copy.contains('#') => format!("{copy} && echo 1 > {file}"),
                _ => copy.clone(),
            };
            Finding::warn(CHECK, text).mended_by(command)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::machine::tests::Faked;
    use super::*;

    /// The project's own files, as they are installed.
    fn installed() -> Faked {
        let faked = Faked::new();
        for (path, text) in [
            (
                "etc/udev/rules.d/60-virtio-loopback.rules",
                include_str!("../../../kernel-driver/60-virtio-loopback.rules"),
            ),
            (
                "usr/lib/udev/rules.d/91-virtio-loopback.rules",
                include_str!("../../../kernel-driver/91-virtio-loopback.rules"),
            ),
            (
                "etc/modprobe.d/virtio-loopback.conf",
                include_str!("../../../kernel-driver/virtio-loopback.modprobe.conf"),
            ),
            ("run/udev/control", ""),
            ("usr/sbin/alsactl", ""),
        ] {
            faked.put(path, text);
        }
        faked
    }

    fn rules(faked: &Faked) -> Rules {
        Rules::of(&faked.machine())
    }

    #[test]
    fn our_own_files_are_right() {
        let rules = rules(&installed());
        for finding in [names(&rules), volume(&rules), period(&rules)] {
            assert_eq!(finding.verdict, Verdict::Ok, "{finding:?}");
        }
    }

    #[test]
    fn a_rule_that_is_missing_or_hidden_is_put_back() {
        let faked = installed();
        faked.put(
            "usr/share/doc/virtio-loopback/udev/60-virtio-loopback.rules",
            "",
        );
        faked.put("etc/udev/rules.d/60-virtio-loopback.rules", "# nothing\n");
        let finding = names(&rules(&faked));
        assert_eq!(finding.verdict, Verdict::Wrong);
        let command = "install -Dm644 /usr/share/doc/virtio-loopback/udev/60-virtio-loopback.rules \
                       /etc/udev/rules.d/60-virtio-loopback.rules && udevadm control --reload";
        assert!(finding.mend.unwrap().starts_with(command));
        faked.link("etc/udev/rules.d/91-virtio-loopback.rules", "/dev/null");
        let finding = volume(&rules(&faked));
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(
            finding.mend.unwrap().starts_with("make install"),
            "no copy of that is here"
        );
        faked.remove("usr/sbin/alsactl");
        assert_eq!(volume(&rules(&faked)).verdict, Verdict::NotApplicable);
    }

    #[test]
    fn rules_need_somebody_who_reads_them() {
        let faked = installed();
        faked.remove("run/udev/control");
        let finding = names(&rules(&faked));
        assert_eq!(
            finding.mend.as_deref(),
            Some("systemctl start systemd-udevd")
        );
    }

    #[test]
    fn a_period_is_what_the_driver_has() {
        let faked = installed();
        let parameter = "sys/module/virtio_snd/parameters/pcm_period_ms_min";
        faked.put(parameter, "1\n");
        assert_eq!(
            period(&rules(&faked)),
            Finding::ok("period", "periods from 1 ms")
        );
        faked.put(parameter, "10\n");
        let late = period(&rules(&faked));
        assert_eq!(late.verdict, Verdict::Warn);
        assert_eq!(late.mend, Some(format!("echo 1 > /{parameter}")));
        faked.remove("etc/modprobe.d/virtio-loopback.conf");
        faked.put(
            "usr/share/doc/virtio-loopback/modprobe.d/virtio-loopback.conf",
            "",
        );
        let missing = period(&rules(&faked)).mend.unwrap();
        assert!(missing.starts_with("install "), "{missing}");
        assert!(
            missing.ends_with(&format!("&& echo 1 > /{parameter}")),
            "{missing}"
        );
        faked.remove("sys");
        assert!(!period(&rules(&faked)).mend.unwrap().contains("echo"));
    }

    #[test]
    fn options_of_others_are_not_ours() {
        let period = |text: &str| {
            period_in(&Configuration {
                path: String::new(),
                text: text.into(),
            })
        };
        assert_eq!(
            period("options virtio_snd a=2 pcm_period_ms_min=3"),
            Some(3)
        );
        assert_eq!(period("options snd pcm_period_ms_min=3"), None);
        assert_eq!(period("options virtio_snd pcm_period_ms_min="), None);
    }
}
