// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! System calls (seccomp), in two filters, of which the stricter one decides. Calls that only an
//! attacker makes end the process. Others that are not in the list fail as in a kernel that does not
//! have them, so that a library that asks for more than we know of does without.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

use super::Needs;
use super::call_lists::{ALLOWED, ALLOWED_ON_X86, FATAL, FATAL_ON_X86, WATCHING, WATCHING_ON_X86};
use super::needs::ANYTHING;

/// Requests that name the process, or the group of processes, to which the kernel sends a signal when
/// something can be read or written (`<asm-generic/fcntl.h>`).
const F_SETOWN: u64 = 8;
const F_SETSIG: u64 = 10;
const F_SETOWN_EX: u64 = 15;
/// Requests that have these signals sent: by a terminal, which names the processes in its foreground itself, to
/// the shell that has started us, or to what else runs there.
const F_SETFL: u64 = 4;
const O_ASYNC: u64 = 0x2000;
/// Requests to files of any kind (`<asm-generic/ioctls.h>`): whether it is a terminal, how much there is to read,
/// whether it waits and is closed when a program starts. Others change terminals, have modules loaded
/// (`<linux/sockios.h>`), and more.
const TCGETS2: u64 = 0x802c_542a;
const ANY_FILE: [u64; 6] = [
    libc::TCGETS,
    TCGETS2,
    libc::FIONREAD,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONCLEX,
];
/// Requests to sound cards by their second byte: PCM, control, hwdep, rawmidi, sequencer (`<sound/asound.h>`).
const CARDS: [u8; 5] = [b'A', b'U', b'H', b'W', b'S'];
/// Those to timers, whose byte is that of terminals.
#[rustfmt::skip]
const TIMERS: [u64; 15] = [
    0x8004_5400, 0xc014_5401, 0x4004_5402, 0xc0f8_5403, 0x4048_5404, 0xc050_5405, 0x4034_5410,
    0x80e8_5411, 0x4050_5412, 0x8060_5414, 0x54a0, 0x54a1, 0x54a2, 0x54a3, 0x4004_54a4,
];
/// What a thread may ask about itself, or say of itself (`<linux/prctl.h>`). It cannot outlive who has started it.
const OWN_MATTERS: [i32; 10] = [
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_VMA,
    libc::PR_SET_TIMERSLACK,
    libc::PR_GET_TIMERSLACK,
    libc::PR_GET_DUMPABLE,
    libc::PR_CAPBSET_READ,
    libc::PR_GET_SECCOMP,
    libc::PR_SET_NO_NEW_PRIVS,
    libc::PR_GET_NO_NEW_PRIVS,
];
/// What is done with futexes, but for those that lend who is waited for the priority of who waits: that may be
/// any thread of the machine.
const FUTEX: [i32; 7] = [
    libc::FUTEX_WAIT,
    libc::FUTEX_WAKE,
    libc::FUTEX_REQUEUE,
    libc::FUTEX_CMP_REQUEUE,
    libc::FUTEX_WAKE_OP,
    libc::FUTEX_WAIT_BITSET,
    libc::FUTEX_WAKE_BITSET,
];
const FUTEX_OPERATION: u64 = 0x7f;

/// The whole of an argument.
const ALL: u64 = u32::MAX as u64;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Result<T> = std::result::Result<T, seccompiler::BackendError>;

/// Takes the system calls that serving does not need from all threads.
///
/// # Errors
/// Why the kernel does not do it.
pub fn restrict(needs: &Needs) -> std::result::Result<String, String> {
    if needs.anything {
        return Err(ANYTHING.to_owned());
    }
    let both = programs(needs).map_err(|error| error.to_string())?;
    for program in &both {
        apply_filter_all_threads(program).map_err(|error| match error {
            seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error) => {
                error.to_string()
            }
            other => other.to_string(),
        })?;
    }
    Ok(String::new())
}

/// The filter of what is fatal, and that of what is allowed.
fn programs(needs: &Needs) -> Result<[BpfProgram; 2]> {
    let arch = std::env::consts::ARCH.try_into()?;
    let absent = SeccompAction::Errno(libc::ENOSYS as u32);
    let kill = SeccompAction::KillProcess;
    let fatal = SeccompFilter::new(fatal()?, SeccompAction::Allow, kill, arch)?;
    let allowed = SeccompFilter::new(allowed(needs)?, absent, SeccompAction::Allow, arch)?;
    Ok([fatal.try_into()?, allowed.try_into()?])
}

fn when(argument: u8, operation: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)
}

/// A call with these arguments, and no other.
fn only(conditions: Vec<SeccompCondition>) -> Result<Vec<SeccompRule>> {
    Ok(vec![SeccompRule::new(conditions)?])
}

/// A call whose argument is none of these.
fn but<const N: usize>(argument: u8, values: [u64; N]) -> Result<Vec<SeccompRule>> {
    let others = values.map(|value| when(argument, SeccompCmpOp::Ne, value));
    only(others.into_iter().collect::<Result<_>>()?)
}

/// A call with an argument that is one of these, looked at through a mask.
fn among(
    argument: u8,
    mask: u64,
    values: impl IntoIterator<Item = u64>,
) -> Result<Vec<SeccompRule>> {
    let equal = |value| when(argument, SeccompCmpOp::MaskedEq(mask), value);
    let rule = |value| SeccompRule::new(vec![equal(value)?]);
    values.into_iter().map(rule).collect()
}

fn listed(lists: [&[i64]; 2]) -> Rules {
    let all = lists.into_iter().flatten();
    all.map(|&call| (call, Vec::new())).collect()
}

fn fatal() -> Result<Rules> {
    let mut rules = listed([FATAL, FATAL_ON_X86]);
    // Nobody here speaks to a network. Families that libraries try are absent instead.
    let known = [libc::AF_UNIX, libc::AF_NETLINK, libc::AF_BLUETOOTH];
    let foreign = but(0, known.map(|family| family as u64))?;
    rules.insert(libc::SYS_socket, foreign.clone());
    rules.insert(libc::SYS_socketpair, foreign);
    // Input for a terminal would be typed into the shell that has started us.
    let typing = among(1, ALL, [libc::TIOCSTI, libc::TIOCLINUX])?;
    rules.insert(libc::SYS_ioctl, typing);
    Ok(rules)
}

fn allowed(needs: &Needs) -> Result<Rules> {
    let mut rules = listed([ALLOWED, ALLOWED_ON_X86]);
    let has = |bit: i32| SeccompCmpOp::MaskedEq(bit as u64);
    // Threads, but no processes.
    let thread = when(0, has(libc::CLONE_THREAD), libc::CLONE_THREAD as u64)?;
    rules.insert(libc::SYS_clone, only(vec![thread])?);
    // Signals to this process alone.
    let own = u64::from(std::process::id());
    rules.insert(
        libc::SYS_tgkill,
        only(vec![when(0, SeccompCmpOp::Eq, own)?])?,
    );
    let mut no_owner = but(1, [F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETFL])?;
    let flags = when(1, SeccompCmpOp::Eq, F_SETFL)?;
    let silent = when(2, SeccompCmpOp::MaskedEq(O_ASYNC), 0)?;
    no_owner.extend(only(vec![flags, silent])?);
    rules.insert(libc::SYS_fcntl, no_owner);
    let mut requests = among(1, ALL, ANY_FILE)?;
    if !needs.devices.is_empty() {
        requests.extend(among(1, 0xff00, CARDS.map(|byte| u64::from(byte) << 8))?);
        requests.extend(among(1, ALL, TIMERS)?);
    }
    rules.insert(libc::SYS_ioctl, requests);
    let matters = OWN_MATTERS.map(|matter| matter as u64);
    rules.insert(libc::SYS_prctl, among(0, ALL, matters)?);
    let futexes = FUTEX.map(|operation| operation as u64);
    rules.insert(libc::SYS_futex, among(1, FUTEX_OPERATION, futexes)?);
    let itself = when(0, SeccompCmpOp::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, only(vec![itself])?);
    // Who can write to other local sockets can ask the service manager for anything, as its user.
    let stream = SeccompCmpOp::MaskedEq(0xf);
    let pair = when(1, stream, libc::SOCK_STREAM as u64)?;
    let local = || when(0, SeccompCmpOp::Eq, libc::AF_UNIX as u64);
    rules.insert(libc::SYS_socketpair, only(vec![local()?, pair])?);
    // Others could see there which files of theirs are used.
    if needs.connects || !needs.devices.is_empty() {
        rules.extend(listed([WATCHING, WATCHING_ON_X86]));
    }
    if needs.connects {
        rules.insert(libc::SYS_socket, only(vec![local()?])?);
        rules.insert(libc::SYS_connect, Vec::new());
    }
    if needs.real_time_threads {
        let calls = [
            libc::SYS_sched_setscheduler,
            libc::SYS_sched_setparam,
            libc::SYS_setpriority,
            // Their locks lend priorities.
            libc::SYS_futex,
        ];
        rules.extend(calls.map(|call| (call, Vec::new())));
    }
    if !needs.loads_code {
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            rules.insert(call, only(vec![when(2, has(libc::PROT_EXEC), 0)?])?);
        }
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use seccompiler::sock_filter;

    use super::*;

    /// What a filter says of a call: its program, run as the kernel does (`<linux/bpf_common.h>`).
    fn judge(program: &[sock_filter], call: i64, arguments: [u64; 6]) -> u32 {
        let arch = match std::env::consts::ARCH {
            "x86_64" => 0xc000_003e_u32,
            "aarch64" => 0xc000_00b7,
            other => panic!("no number for {other}"),
        };
        // `struct seccomp_data`, with the address of the instruction left out.
        let mut data = Vec::from((call as u32).to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend([0; 8]);
        data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
        let (mut at, mut word) = (0, 0_u32);
        loop {
            let step = &program[at];
            let jump = |holds| usize::from(if holds { step.jt } else { step.jf });
            at += 1 + match step.code {
                0x20 => {
                    let from = step.k as usize;
                    word = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                    0
                }
                0x54 => {
                    word &= step.k;
                    0
                }
                0x05 => step.k as usize,
                0x15 => jump(word == step.k),
                0x25 => jump(word > step.k),
                0x35 => jump(word >= step.k),
                0x06 => return step.k,
                other => panic!("no such instruction: {other:#x}"),
            };
        }
    }

    #[test]
    fn nobody_is_named_whom_the_kernel_sends_signals() {
        let [_, allowed] = programs(&Needs::default()).unwrap();
        let judge_with = |call, request, value| judge(&allowed, call, [3, request, value, 0, 0, 0]);
        let judge = |call, request| judge_with(call, request, 1);
        let yes = u32::from(SeccompAction::Allow);
        let absent = u32::from(SeccompAction::Errno(libc::ENOSYS as u32));
        assert_eq!(F_SETOWN, libc::F_SETOWN as u64);
        for request in [F_SETOWN, F_SETOWN_EX, F_SETSIG] {
            // The kernel reads an int: what is above that counts for nothing.
            for request in [request, 1 << 32 | request] {
                assert_eq!(judge(libc::SYS_fcntl, request), absent, "{request}");
            }
        }
        assert_eq!(F_SETFL, libc::F_SETFL as u64);
        assert_eq!(O_ASYNC, libc::O_ASYNC as u64);
        let nonblocking = libc::O_NONBLOCK as u64;
        for (flags, says) in [
            (0, yes),
            (nonblocking, yes),
            (O_ASYNC, absent),
            (O_ASYNC | nonblocking, absent),
            (u64::from(u32::MAX), absent),
        ] {
            assert_eq!(judge_with(libc::SYS_fcntl, F_SETFL, flags), says);
        }
        // Elsewhere that bit is a part of a number.
        let duplicate = libc::F_DUPFD_CLOEXEC as u64;
        assert_eq!(judge_with(libc::SYS_fcntl, duplicate, O_ASYNC), yes);
        for request in [libc::F_GETFD, libc::F_SETFL, libc::F_DUPFD_CLOEXEC] {
            assert_eq!(judge(libc::SYS_fcntl, request as u64), yes, "{request}");
        }
        assert_eq!(judge(libc::SYS_kill, 0), absent);
    }

    #[test]
    fn requests_are_those_to_sound_cards_alone() {
        let none = Needs::default();
        let card = Needs {
            devices: vec!["/dev/snd".into()],
            ..Needs::default()
        };
        let judge = |needs: &Needs, request| {
            let [_, allowed] = programs(needs).unwrap();
            judge(&allowed, libc::SYS_ioctl, [3, request, 1, 0, 0, 0])
        };
        let yes = u32::from(SeccompAction::Allow);
        let absent = u32::from(SeccompAction::Errno(libc::ENOSYS as u32));
        let (fiosetown, fioasync, siocgifbr, siocgifvlan) = (0x8901, 0x5452, 0x8940, 0x8982);
        let terminal = [
            libc::TIOCSWINSZ,
            libc::TIOCNOTTY,
            libc::TIOCSPGRP,
            libc::TIOCSETD,
            libc::TCSETS,
            libc::TCSETS2,
        ];
        let others = [fiosetown, fioasync, siocgifbr, siocgifvlan].into_iter();
        for request in others.chain(terminal) {
            assert_eq!(judge(&card, request), absent, "{request:#x}");
        }
        for request in ANY_FILE {
            assert_eq!(judge(&none, request), yes, "{request:#x}");
        }
        // `SNDRV_CTL_IOCTL_CARD_INFO`, `SNDRV_PCM_IOCTL_HW_PARAMS`, `SNDRV_TIMER_IOCTL_START`
        for request in [0x8178_5501, 0xc260_4111, 0x54a0] {
            assert_eq!(judge(&card, request), yes, "{request:#x}");
            assert_eq!(judge(&none, request), absent, "{request:#x}");
        }
    }

    #[test]
    fn nobody_outlives_his_parent_or_lends_his_priority() {
        let yes = u32::from(SeccompAction::Allow);
        let absent = u32::from(SeccompAction::Errno(libc::ENOSYS as u32));
        let [_, allowed] = programs(&Needs::default()).unwrap();
        let says = |call, arguments| judge(&allowed, call, arguments);
        for (matter, expected) in [
            (libc::PR_SET_NAME, yes),
            (libc::PR_SET_PDEATHSIG, absent),
            (libc::PR_SET_SECCOMP, absent),
            (libc::PR_SET_DUMPABLE, absent),
        ] {
            let arguments = [matter as u64, 0, 0, 0, 0, 0];
            assert_eq!(says(libc::SYS_prctl, arguments), expected, "{matter}");
        }
        for (operation, expected) in [
            (libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG, yes),
            (libc::FUTEX_LOCK_PI, absent),
            (libc::FUTEX_LOCK_PI | libc::FUTEX_PRIVATE_FLAG, absent),
            (libc::FUTEX_WAIT_REQUEUE_PI, absent),
        ] {
            let arguments = [0, operation as u64, 0, 0, 0, 0];
            assert_eq!(says(libc::SYS_futex, arguments), expected, "{operation}");
        }
    }
}
