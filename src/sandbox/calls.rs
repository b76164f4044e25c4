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
use super::call_lists::{ALLOWED, ALLOWED_ON_X86, FATAL, FATAL_ON_X86};
use super::needs::ANYTHING;

/// Requests that name the process, or the group of processes, to which the kernel sends a signal when
/// something can be read or written (`<asm-generic/fcntl.h>`, `<asm-generic/sockios.h>`).
const F_SETOWN: u64 = 8;
const F_SETSIG: u64 = 10;
const F_SETOWN_EX: u64 = 15;
const FIOSETOWN: u64 = 0x8901;
const SIOCSPGRP: u64 = 0x8902;
/// Requests that have these signals sent: by a terminal, which names the processes in its foreground itself, to
/// the shell that has started us, or to what else runs there.
const F_SETFL: u64 = 4;
const O_ASYNC: u64 = 0x2000;
const FIOASYNC: u64 = 0x5452;

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

fn listed(lists: [&[i64]; 2]) -> Rules {
    let all = lists.into_iter().flatten();
    all.map(|&call| (call, Vec::new())).collect()
}

fn fatal() -> Result<Rules> {
    let mut rules = listed([FATAL, FATAL_ON_X86]);
    // Nobody here speaks to a network. Families that libraries try are absent instead.
    let known = [libc::AF_UNIX, libc::AF_NETLINK, libc::AF_BLUETOOTH];
    let foreign = but(0, known.map(|family| family as u64))?;
    rules.insert(libc::SYS_socket, foreign);
    // Input for a terminal would be typed into the shell that has started us.
    let typing = [libc::TIOCSTI, libc::TIOCLINUX];
    let typing = typing.map(|request| SeccompRule::new(vec![when(1, SeccompCmpOp::Eq, request)?]));
    let typing = typing.into_iter().collect::<Result<_>>()?;
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
    // A terminal also signals those in its foreground when its size changes or its session ends, and those
    // who read it when others are put there.
    let [size, end, foreground] = [libc::TIOCSWINSZ, libc::TIOCNOTTY, libc::TIOCSPGRP];
    let signalling = [FIOSETOWN, SIOCSPGRP, FIOASYNC, size, end, foreground];
    rules.insert(libc::SYS_ioctl, but(1, signalling)?);
    let itself = when(0, SeccompCmpOp::Eq, 0)?;
    rules.insert(libc::SYS_prlimit64, only(vec![itself])?);
    // Who can write to other local sockets can ask the service manager for anything, as its user.
    let stream = SeccompCmpOp::MaskedEq(0xf);
    let pair = when(1, stream, libc::SOCK_STREAM as u64)?;
    rules.insert(libc::SYS_socketpair, only(vec![pair])?);
    if needs.connects {
        let local = when(0, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?;
        rules.insert(libc::SYS_socket, only(vec![local])?);
        rules.insert(libc::SYS_connect, Vec::new());
    }
    if needs.real_time_threads {
        let calls = [
            libc::SYS_sched_setscheduler,
            libc::SYS_sched_setparam,
            libc::SYS_setpriority,
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
        let terminal = [libc::TIOCSWINSZ, libc::TIOCNOTTY, libc::TIOCSPGRP];
        for request in [FIOSETOWN, SIOCSPGRP, FIOASYNC].into_iter().chain(terminal) {
            assert_eq!(judge(libc::SYS_ioctl, request), absent, "{request:#x}");
        }
        for request in [libc::TCGETS, libc::FIONBIO, libc::FIONREAD] {
            assert_eq!(judge(libc::SYS_ioctl, request), yes, "{request:#x}");
        }
        // `SNDRV_CTL_IOCTL_CARD_INFO`
        assert_eq!(judge(libc::SYS_ioctl, 0x8178_5501), yes);
        assert_eq!(judge(libc::SYS_kill, 0), absent);
    }
}
