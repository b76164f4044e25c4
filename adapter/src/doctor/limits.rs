// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Real time: what a process may have of it, and what it has.

use super::access::Caller;
use super::finding::Finding;
use super::machine::Machine;

/// The real-time priority that a sound device asks for by default.
const PRIORITY: u64 = 50;
/// Gives members of the group what a sound device needs.
const GRANT: &str = "printf \"@virtio-loopback - rtprio 95\\n@virtio-loopback - memlock unlimited\\n\" \
                     > /etc/security/limits.d/virtio-loopback.conf";
/// SCHED_FIFO, SCHED_RR and SCHED_DEADLINE.
const REALTIME_POLICIES: [u32; 3] = [1, 2, 6];
/// The name of a sound device's thread that has to be in time.
const AUDIO_THREAD: &str = "audio";

/// What a process may have, and has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Realtime {
    /// Highest real-time priority that it may take.
    priority: u64,
    /// Bytes that it may lock in memory; all ones: without limit.
    memory: u64,
    /// Real-time priority of its audio thread; where it has none, the highest of its threads.
    has_priority: Option<u32>,
    /// Some of its memory is locked.
    has_locked: bool,
    /// Its audio thread.
    audio_thread: Option<u32>,
}

impl Realtime {
    /// Of a process: its number, or "self". `None` where there is none.
    pub(super) fn of(machine: &Machine, process: &str) -> Option<Self> {
        let folder = format!("/proc/{process}");
        let limits = machine.text(&format!("{folder}/limits"))?;
        let mut realtime = Self {
            priority: limit(&limits, "Max realtime priority"),
            memory: limit(&limits, "Max locked memory"),
            ..Self::default()
        };
        let status = machine
            .text(&format!("{folder}/status"))
            .unwrap_or_default();
        let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
        realtime.has_locked = locked.is_some_and(|size| !size.trim().starts_with("0 "));
        let tasks = format!("{folder}/task");
        let of_thread = |thread: &String, file| machine.text(&format!("{tasks}/{thread}/{file}"));
        let mut threads = machine.names(&tasks);
        let is_audio = |thread: &String| of_thread(thread, "comm").as_deref() == Some(AUDIO_THREAD);
        if let Some(audio) = threads.iter().find(|thread| is_audio(thread)).cloned() {
            realtime.audio_thread = audio.parse().ok();
            threads = vec![audio];
        }
        let priorities = threads.iter().filter_map(|thread| {
            let (policy, priority) = scheduling(&of_thread(thread, "stat")?)?;
            REALTIME_POLICIES.contains(&policy).then_some(priority)
        });
        realtime.has_priority = priorities.max();
        Some(realtime)
    }
}

/// The soft limit: "Max locked memory  8388608  8388608  bytes".
fn limit(limits: &str, name: &str) -> u64 {
    let mut lines = limits.lines().filter_map(|line| line.strip_prefix(name));
    match lines.next().and_then(|line| line.split_whitespace().next()) {
        Some("unlimited") => u64::MAX,
        Some(number) => number.parse().unwrap_or_default(),
        None => 0,
    }
}

/// Policy and real-time priority of /proc/PID/task/TID/stat: its fields 41 and 40.
fn scheduling(stat: &str) -> Option<(u32, u32)> {
    // The name, which is field 2 and may be anything, ends at the last bracket.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(40 - 3);
    let priority = fields.next()?.parse().ok()?;
    Some((fields.next()?.parse().ok()?, priority))
}

/// What device processes may have that the caller starts.
pub(super) fn of_caller(realtime: Option<&Realtime>, caller: &Caller) -> Finding {
    const CHECK: &str = "real-time";
    let Some(realtime) = realtime else {
        return Finding::not_applicable(CHECK, "the limits of this process cannot be read");
    };
    if caller.is_root() {
        return Finding::ok(CHECK, "root may take any priority and lock memory");
    }
    match (realtime.priority >= PRIORITY, realtime.memory == u64::MAX) {
        (true, true) => Finding::ok(CHECK, "priorities and locked memory are allowed"),
        (priority, _) => {
            let what = if priority {
                "locked memory"
            } else {
                "real-time priority"
            };
            let text = format!(
                "sound devices that {} starts have no {what} (systemd's units have); from the next \
                 login on, for members of the group",
                caller.name
            );
            Finding::warn(CHECK, text).mended_by(GRANT)
        }
    }
}

/// What a card's device process has.
pub(super) fn of_card(realtime: &Realtime, process: i32) -> Finding {
    const CHECK: &str = "real-time";
    let Some(priority) = realtime.has_priority else {
        let text = format!(
            "process {process} has no real-time priority: others can delay its sound (for good: \
             LimitRTPRIO=95 in its unit, or rtprio in limits.d)"
        );
        let finding = Finding::warn(CHECK, text);
        return match realtime.audio_thread {
            Some(thread) => finding.mended_by(format!("chrt --fifo --pid {PRIORITY} {thread}")),
            None => finding,
        };
    };
    if realtime.has_locked {
        return Finding::ok(CHECK, format!("priority {priority}, memory locked"));
    }
    let text = format!(
        "priority {priority}, but its memory may be swapped: LimitMEMLOCK=infinity in its unit, or \
         memlock in limits.d"
    );
    Finding::warn(CHECK, text).mended_by(GRANT)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::machine::tests::Faked;
    use super::*;

    fn limits(priority: &str, memory: &str) -> String {
        format!(
            "Limit                     Soft Limit  Hard Limit  Units\n\
             Max locked memory         {memory}    {memory}    bytes\n\
             Max realtime priority     {priority}  {priority}\n"
        )
    }

    fn stat(name: &str, priority: u32, policy: u32) -> String {
        let between = vec!["0"; 36].join(" ");
        format!("77 ({name}) S {between} {priority} {policy} 0 0")
    }

    fn ann() -> Caller {
        Caller {
            id: 1000,
            name: "ann".into(),
            ..Caller::default()
        }
    }

    #[test]
    fn a_process_is_read_from_its_folder() {
        let faked = Faked::new();
        assert_eq!(Realtime::of(&faked.machine(), "77"), None);
        faked.put("proc/77/limits", &limits("95", "unlimited"));
        faked.put("proc/77/status", "Name:\tx\nVmLck:\t   12 kB\n");
        faked.put("proc/77/task/77/stat", &stat("a) R 1 (b", 0, 0));
        faked.put("proc/77/task/79/stat", &stat("audio", 50, 1));
        faked.put("proc/77/task/79/comm", "audio\n");
        let expected = Some(Realtime {
            priority: 95,
            memory: u64::MAX,
            has_priority: Some(50),
            has_locked: true,
            audio_thread: Some(79),
        });
        assert_eq!(Realtime::of(&faked.machine(), "77"), expected);
        // PipeWire's library has one of its own.
        faked.put("proc/77/task/78/stat", &stat("data-loop", 88, 1));
        assert_eq!(Realtime::of(&faked.machine(), "77"), expected);
        faked.put("proc/77/status", "VmLck:\t       0 kB\n");
        faked.put("proc/77/task/79/stat", "odd");
        let changed = Realtime::of(&faked.machine(), "77").unwrap();
        assert_eq!((changed.has_priority, changed.has_locked), (None, false));
        faked.remove("proc/77/task/79");
        let without = Realtime::of(&faked.machine(), "77").unwrap();
        assert_eq!(
            (without.has_priority, without.audio_thread),
            (Some(88), None)
        );
    }

    #[test]
    fn this_very_process_can_be_read() {
        let realtime = Realtime::of(&Machine::this(), "self").unwrap();
        let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
        assert!(threads > 0 && realtime.memory > 0, "{realtime:?}");
    }

    #[test]
    fn a_user_without_limits_is_told_how_to_get_them() {
        let of = |priority, memory| {
            let realtime = Realtime {
                priority,
                memory,
                ..Realtime::default()
            };
            of_caller(Some(&realtime), &ann())
        };
        assert_eq!(of(95, u64::MAX).verdict, Verdict::Ok);
        assert!(of(0, u64::MAX).text.contains("no real-time priority"));
        assert!(of(50, 8 << 20).text.contains("no locked memory"));
        assert_eq!(of(0, 0).mend.as_deref(), Some(GRANT));
        let root = Caller::default();
        let none = Realtime::default();
        assert_eq!(of_caller(Some(&none), &root).verdict, Verdict::Ok);
        assert_eq!(of_caller(None, &root).verdict, Verdict::NotApplicable);
    }

    #[test]
    fn a_device_process_without_priority_can_be_given_one() {
        let without = Realtime {
            audio_thread: Some(79),
            ..Realtime::default()
        };
        let finding = of_card(&without, 77);
        assert_eq!(finding.verdict, Verdict::Warn);
        assert_eq!(finding.mend.as_deref(), Some("chrt --fifo --pid 50 79"));
        assert_eq!(
            of_card(&Realtime::default(), 77).mend,
            None,
            "no thread of that name"
        );
        let unlocked = Realtime {
            has_priority: Some(50),
            ..Realtime::default()
        };
        assert!(of_card(&unlocked, 77).text.contains("swapped"));
        let both = Realtime {
            has_locked: true,
            ..unlocked
        };
        assert_eq!(
            of_card(&both, 77),
            Finding::ok("real-time", "priority 50, memory locked")
        );
    }
}
