// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Checks of rights: may this user make cards?

use nix::unistd::{AccessFlags, access};

use super::finding::Finding;
use super::machine::Machine;
use crate::driver::CONTROL_PATH;

const CHECK: &str = "access";
const GROUP: &str = "virtio-loopback";
/// Read and write for the group.
const GROUP_BITS: u32 = 0o060;

/// The user who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Caller {
    /// User id.
    pub(super) id: u32,
    /// Login name, or the id where there is none.
    pub(super) name: String,
    /// Groups that this process is in.
    pub(super) groups: Vec<u32>,
}

/// What decides who may open the control file.
#[derive(Clone, Debug, Default)]
pub(super) struct Access {
    /// The module is loaded.
    module: bool,
    /// Mode and group of the control file, if there is one.
    file: Option<(u32, u32)>,
    /// This process may open it.
    may_open: bool,
    /// Number and members of the group, if there is one.
    group: Option<(u32, Vec<String>)>,
}

impl Caller {
    pub(super) fn of(machine: &Machine) -> Self {
        let status = machine.text("/proc/self/status").unwrap_or_default();
        let numbers = |label: &str| -> Vec<u32> {
            let mut lines = status.lines().filter_map(|line| line.strip_prefix(label));
            let words = lines.next().unwrap_or_default().split_whitespace();
            words.filter_map(|word| word.parse().ok()).collect()
        };
        // Real, effective, saved, of the file system.
        let id = numbers("Uid:").get(1).copied().unwrap_or_default();
        let mut groups = numbers("Groups:");
        groups.extend(numbers("Gid:").get(1));
        let users = machine.text("/etc/passwd").unwrap_or_default();
        let name = users.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            (fields.get(2)?.parse() == Ok(id)).then(|| fields.first().copied())?
        });
        Self {
            id,
            name: name.map_or_else(|| id.to_string(), str::to_owned),
            groups,
        }
    }

    pub(super) fn is_root(&self) -> bool {
        self.id == 0
    }
}

impl Access {
    pub(super) fn of(machine: &Machine) -> Self {
        let readable = AccessFlags::R_OK | AccessFlags::W_OK;
        let groups = machine.text("/etc/group").unwrap_or_default();
        let group = groups.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let [GROUP, _, id, members] = fields[..] else {
                return None;
            };
            let members = members.split(',').filter(|name| !name.is_empty());
            Some((id.parse().ok()?, members.map(str::to_owned).collect()))
        });
        Self {
            module: machine.exists("/sys/module/virtio_loopback"),
            file: machine.mode_and_group(CONTROL_PATH),
            may_open: access(&machine.path(CONTROL_PATH), readable).is_ok(),
            group,
        }
    }
}

/// Whether the caller may make cards, or what keeps him from that.
pub(super) fn check(access: &Access, caller: &Caller) -> Finding {
    let name = &caller.name;
    let Some((mode, owner)) = access.file else {
        return without_file(access);
    };
    let Some((group, members)) = &access.group else {
        let text = format!("there is no group {GROUP}: only root may make cards");
        return unless_root(caller, text)
            .mended_by(format!("groupadd --system {GROUP} && {}", rules_again()));
    };
    if owner != *group || mode & GROUP_BITS != GROUP_BITS {
        let text = format!(
            "{CONTROL_PATH} does not belong to the group {GROUP} (mode {mode:o}, group {owner}): \
             udev's rule has not acted"
        );
        return unless_root(caller, text).mended_by(rules_again());
    }
    if access.may_open {
        return Finding::ok(CHECK, format!("{name} may make cards"));
    }
    if members.contains(name) && !caller.groups.contains(group) {
        let text = format!("{name} is a member of the group {GROUP} from the next login on");
        return Finding::wrong(CHECK, text).mended_by_user(format!("newgrp {GROUP}"));
    }
    let text = format!("{name} may not make cards: not a member of the group {GROUP}");
    Finding::wrong(CHECK, text).mended_by(format!("usermod -aG {GROUP} {name}"))
}

fn without_file(access: &Access) -> Finding {
    if !access.module {
        return Finding::not_applicable(CHECK, "the module is not loaded");
    }
    let text = format!("{CONTROL_PATH} is missing although the module is loaded");
    Finding::wrong(CHECK, text).mended_by("modprobe -r virtio_loopback && modprobe virtio_loopback")
}

/// Root may do everything; others are stopped by it.
fn unless_root(caller: &Caller, text: String) -> Finding {
    match caller.is_root() {
        true => Finding::warn(CHECK, text),
        false => Finding::wrong(CHECK, text),
    }
}

/// Has udev apply its rules to the control file.
pub(super) fn rules_again() -> String {
    "udevadm control --reload && udevadm trigger --action=add /sys/class/misc/virtio-loopback"
        .into()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::machine::tests::Faked;
    use super::*;

    fn ann() -> Caller {
        Caller {
            id: 1000,
            name: "ann".into(),
            groups: vec![1000],
        }
    }

    /// A control file as it should be, and a user who is no member.
    fn right() -> Access {
        Access {
            module: true,
            file: Some((0o660, 997)),
            may_open: false,
            group: Some((997, vec!["bob".into()])),
        }
    }

    #[test]
    fn facts_are_read_from_files() {
        let faked = Faked::new();
        faked.put(
            "proc/self/status",
            "Name:\tx\nUid:\t1000\t1000\t1000\t1000\nGid:\t100\t100\t100\t100\nGroups:\t29 997 \n",
        );
        faked.put(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/users/ann:/bin/sh\nodd\n",
        );
        faked.put("etc/group", "audio:x:29:\nvirtio-loopback:x:997:bob,ann\n");
        faked
            .put("dev/virtio-loopback", "")
            .make("sys/module/virtio_loopback");
        let caller = Caller::of(&faked.machine());
        assert_eq!((caller.id, caller.name.as_str()), (1000, "ann"));
        assert_eq!(caller.groups, [29, 997, 100]);
        let access = Access::of(&faked.machine());
        assert!(access.module && access.file.is_some() && access.may_open);
        assert_eq!(access.group, Some((997, vec!["bob".into(), "ann".into()])));
        let nothing = Access::of(&Faked::new().machine());
        assert!(nothing.file.is_none() && nothing.group.is_none() && !nothing.may_open);
    }

    #[test]
    fn who_may_open_it_is_right() {
        let open = Access {
            may_open: true,
            ..right()
        };
        assert_eq!(
            check(&open, &ann()),
            Finding::ok(CHECK, "ann may make cards")
        );
    }

    #[test]
    fn who_may_not_is_told_the_way_in() {
        let finding = check(&right(), &ann());
        assert_eq!(finding.verdict, Verdict::Wrong);
        assert_eq!(
            finding.mend.as_deref(),
            Some("usermod -aG virtio-loopback ann")
        );
        let member = Access {
            group: Some((997, vec!["ann".into()])),
            ..right()
        };
        let finding = check(&member, &ann());
        assert!(finding.text.contains("next login"), "{}", finding.text);
        assert_eq!(
            (finding.mend.as_deref(), finding.as_root),
            (Some("newgrp virtio-loopback"), false)
        );
    }

    #[test]
    fn a_file_that_udev_has_not_seen_is_told() {
        for file in [(0o600, 0), (0o660, 0), (0o640, 997)] {
            let access = Access {
                file: Some(file),
                ..right()
            };
            let finding = check(&access, &ann());
            assert_eq!(finding.verdict, Verdict::Wrong, "{file:?}");
            assert_eq!(finding.mend, Some(rules_again()), "{file:?}");
        }
        let root = Caller::default();
        let access = Access {
            file: Some((0o600, 0)),
            may_open: true,
            ..right()
        };
        assert_eq!(check(&access, &root).verdict, Verdict::Warn, "root may");
    }

    #[test]
    fn what_is_missing_is_told() {
        let without_group = Access {
            group: None,
            ..right()
        };
        let finding = check(&without_group, &ann());
        assert!(
            finding
                .mend
                .unwrap()
                .starts_with("groupadd --system virtio-loopback && udevadm")
        );
        let without_file = Access {
            file: None,
            ..right()
        };
        assert_eq!(check(&without_file, &ann()).verdict, Verdict::Wrong);
        let nothing = Access::default();
        assert_eq!(check(&nothing, &ann()).verdict, Verdict::NotApplicable);
    }
}
