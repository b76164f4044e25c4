// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Checks of WirePlumber: it must leave our cards alone, and may decide who is heard.

use super::finding::Finding;
use super::machine::Machine;

/// Where its libraries are.
const LIBRARIES: &[&str] = &["/usr/lib", "/usr/lib64", "/usr/local/lib"];

/// What there is to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WirePlumber {
    /// Its version, "0.4" or "0.5", if it is installed.
    version: Option<String>,
    /// The file that hides our cards from it.
    hides: Option<String>,
    /// The file with a policy by roles.
    policy: Option<String>,
    /// The roles that this knows.
    pub(super) roles: Vec<String>,
    /// The command that hides our cards.
    copy: String,
    /// The command that gives it a policy.
    copy_policy: String,
}

impl WirePlumber {
    pub(super) fn of(machine: &Machine) -> Self {
        let programs = ["/usr/bin/wireplumber", "/usr/local/bin/wireplumber"];
        if !programs.iter().any(|path| machine.exists(path)) {
            return Self::default();
        }
        let version = version(machine);
        let files =
            |folder: &str, suffix: &str| machine.configuration(&folders(machine, folder), suffix);
        let (rules, policies) = match version.as_str() {
            "0.4" => (files("main.lua.d", ".lua"), files("policy.lua.d", ".lua")),
            _ => {
                let files = files("wireplumber.conf.d", ".conf");
                (files.clone(), files)
            }
        };
        let hides = |text: &str| {
            let ours = ["devices/virtual/virtio-loopback", "VirtIO SoundCard at"];
            text.contains("device.disabled") && ours.iter().any(|word| text.contains(word))
        };
        let decides = |text: &str| {
            text.contains("policy.role-based.") || text.contains("default_policy.policy.roles")
        };
        let policy = policies.iter().find(|file| decides(&file.text));
        let copy = |file: &str| {
            let file = format!("{}/{file}", if version == "0.4" { "0.4" } else { "0.5" });
            let (_, target) = file.split_once('/').unwrap_or_default();
            machine.copy(
                &format!("wireplumber/{file}"),
                &format!("/etc/wireplumber/{target}"),
            )
        };
        let (hide, roles) = match version.as_str() {
            "0.4" => (
                "main.lua.d/51-hide-virtio-loopback.lua",
                "policy.lua.d/51-agl-roles.lua",
            ),
            _ => (
                "wireplumber.conf.d/51-hide-virtio-loopback.conf",
                "wireplumber.conf.d/50-agl-roles.conf",
            ),
        };
        Self {
            hides: rules
                .into_iter()
                .find(|file| hides(&file.text))
                .map(|file| file.path),
            policy: policy.map(|file| file.path.clone()),
            roles: policy.map(|file| roles_in(&file.text)).unwrap_or_default(),
            copy: copy(hide),
            copy_policy: copy(roles),
            version: Some(version),
        }
    }
}

/// Its folders of this name, first things first.
fn folders(machine: &Machine, folder: &str) -> Vec<String> {
    let name = format!("wireplumber/{folder}");
    let system = ["/etc", "/usr/local/share", "/usr/share"];
    let system = system.iter().map(|parent| format!("{parent}/{name}"));
    machine.of_user(&name).into_iter().chain(system).collect()
}

/// By its library: libwireplumber-0.5.so.0
fn version(machine: &Machine) -> String {
    let of_name = |name: String| {
        let version = name.strip_prefix("libwireplumber-")?.split(".so").next()?;
        Some(version.to_owned())
    };
    let folders = LIBRARIES.iter().flat_map(|folder| {
        let below = machine.names(folder).into_iter();
        let below = below.filter(|name| name.contains("-linux-gnu"));
        let below = below.map(move |name| format!("{folder}/{name}"));
        std::iter::once((*folder).to_owned()).chain(below)
    });
    // An upgrade may leave the library of the version before.
    let names = folders.flat_map(|folder| machine.names(&folder));
    names
        .filter_map(of_name)
        .max()
        .unwrap_or_else(|| "0.5".into())
}

/// The words of all lists of roles: `device.intended-roles = [ "Music", ... ]`, `["Music"] = {`,
/// `alias = { "Music", ... }`.
fn roles_in(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| {
        let named = ["intended-roles", "alias", "priority"];
        named.iter().any(|word| line.contains(word))
    });
    let quoted = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    let roles = quoted.filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
    let mut roles: Vec<_> = roles.map(str::to_owned).collect();
    roles.sort();
    roles.dedup();
    roles
}

/// Whether it leaves our cards to applications. `by_udev` is a rule of udev that sees to it.
pub(super) fn hidden(wireplumber: &WirePlumber, by_udev: Option<&str>) -> Finding {
    const CHECK: &str = "wireplumber";
    let Some(version) = &wireplumber.version else {
        return Finding::not_applicable(CHECK, "WirePlumber is not installed");
    };
    match wireplumber.hides.as_deref().or(by_udev) {
        Some(file) => Finding::ok(
            CHECK,
            format!("WirePlumber {version} leaves the cards alone ({file})"),
        ),
        None => {
            let text = format!(
                "WirePlumber {version} takes the cards for real ones: sound that they play on \
                 PipeWire would come back to them (start WirePlumber again once this is mended)"
            );
            Finding::warn(CHECK, text).mended_by(&wireplumber.copy)
        }
    }
}

/// Whether somebody decides by roles who is heard; `asked` is a role that a card has.
pub(super) fn policy(wireplumber: &WirePlumber, asked: Option<&str>) -> Finding {
    const CHECK: &str = "roles";
    match (&wireplumber.version, &wireplumber.policy, asked) {
        (None, ..) => Finding::not_applicable(CHECK, "WirePlumber is not installed"),
        (_, Some(file), _) => {
            let roles = wireplumber.roles.len();
            Finding::ok(
                CHECK,
                format!("a policy decides who is heard: {roles} roles in {file}"),
            )
        }
        (_, None, None) => {
            Finding::not_applicable(CHECK, "no policy for roles, and no card that has one")
        }
        (_, None, Some(role)) => {
            let text = format!(
                "a card has the role {role}, but no policy makes anything of it: all are heard at \
                 once (start WirePlumber again once this is mended)"
            );
            Finding::warn(CHECK, text).mended_by(&wireplumber.copy_policy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::machine::tests::Faked;
    use super::*;

    fn faked(version: &str) -> Faked {
        let faked = Faked::new();
        faked.put("usr/bin/wireplumber", "");
        let library = format!("usr/lib/x86_64-linux-gnu/libwireplumber-{version}.so.0");
        faked.put(&library, "");
        faked
    }

    fn examine(faked: &Faked) -> WirePlumber {
        WirePlumber::of(&faked.machine())
    }

    const HIDE_05: &str = include_str!(
        "../../../examples/wireplumber/0.5/wireplumber.conf.d/51-hide-virtio-loopback.conf"
    );
    const HIDE_04: &str =
        include_str!("../../../examples/wireplumber/0.4/main.lua.d/51-hide-virtio-loopback.lua");

    #[test]
    fn without_it_nothing_matters() {
        let nothing = examine(&Faked::new());
        assert_eq!(hidden(&nothing, None).verdict, Verdict::NotApplicable);
        assert_eq!(
            policy(&nothing, Some("Music")).verdict,
            Verdict::NotApplicable
        );
    }

    #[test]
    fn our_rules_hide_the_cards_from_the_version_that_they_are_for() {
        let rules = [
            (
                "0.5",
                "etc/wireplumber/wireplumber.conf.d/51-hide.conf",
                HIDE_05,
            ),
            (
                "0.5",
                "users/ann/.config/wireplumber/wireplumber.conf.d/x.conf",
                HIDE_05,
            ),
            (
                "0.4",
                "usr/share/wireplumber/main.lua.d/51-hide.lua",
                HIDE_04,
            ),
        ];
        for (version, path, rule) in rules {
            let faked = faked(version);
            let before = hidden(&examine(&faked), None);
            assert_eq!(before.verdict, Verdict::Warn, "{version}");
            faked.put(path, rule);
            let after = hidden(&examine(&faked), None);
            assert_eq!(after.verdict, Verdict::Ok, "{version}");
            assert!(
                after.text.contains(version) && after.text.contains(path),
                "{}",
                after.text
            );
        }
        let other = faked("0.4");
        other.put("etc/wireplumber/wireplumber.conf.d/51-hide.conf", HIDE_05);
        assert_eq!(hidden(&examine(&other), None).verdict, Verdict::Warn);
        assert_eq!(
            hidden(&examine(&other), Some("/etc/x.rules")).verdict,
            Verdict::Ok
        );
    }

    #[test]
    fn a_rule_for_other_cards_does_not_count() {
        let faked = faked("0.5");
        let other = "monitor.alsa.rules = [ { actions = { device.disabled = true } } ]";
        faked.put("etc/wireplumber/wireplumber.conf.d/a.conf", other);
        faked.put(
            "etc/wireplumber/wireplumber.conf.d/b.conf",
            &format!("# {HIDE_05}").replace('\n', "\n#"),
        );
        assert_eq!(hidden(&examine(&faked), None).verdict, Verdict::Warn);
    }

    #[test]
    fn what_is_missing_is_copied_where_its_version_reads_it() {
        let faked = faked("0.4");
        faked.put(
            "usr/share/doc/virtio-loopback/wireplumber/0.4/main.lua.d/51-hide-virtio-loopback.lua",
            "",
        );
        let command = "install -Dm644 /usr/share/doc/virtio-loopback/wireplumber/0.4/main.lua.d/\
                       51-hide-virtio-loopback.lua /etc/wireplumber/main.lua.d/51-hide-virtio-loopback.lua";
        assert_eq!(
            hidden(&examine(&faked), None).mend.as_deref(),
            Some(command)
        );
        assert!(
            policy(&examine(&faked), Some("Music"))
                .mend
                .unwrap()
                .starts_with("make install")
        );
    }

    #[test]
    fn a_policy_is_needed_where_a_card_has_a_role() {
        let faked = faked("0.5");
        let wireplumber = examine(&faked);
        assert_eq!(policy(&wireplumber, None).verdict, Verdict::NotApplicable);
        assert_eq!(policy(&wireplumber, Some("Music")).verdict, Verdict::Warn);
        let roles = "device.intended-roles = [ \"Multimedia\", \"Music\" ]\npolicy.role-based.priority = 25\n";
        faked.put(
            "etc/wireplumber/wireplumber.conf.d/50-agl-roles.conf",
            roles,
        );
        let wireplumber = examine(&faked);
        assert_eq!(policy(&wireplumber, Some("Music")).verdict, Verdict::Ok);
        assert_eq!(wireplumber.roles, ["Multimedia", "Music"]);
    }

    #[test]
    fn roles_of_both_versions_are_read() {
        let lua = "local roles = {\n  [\"Navigation\"] = { priority = 50, action = \"duck\" },\n  \
                   [\"Emergency\"] = { priority = 99, action = \"cork\", alias = { \"Alert\" } },\n}";
        assert_eq!(roles_in(lua), ["Alert", "Emergency", "Navigation"]);
    }
}
