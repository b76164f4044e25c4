// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What keeps other programs from delaying sound: a real-time priority for the audio thread and
//! memory that is not taken away. And what keeps the audio thread from delaying everything else.

use std::hint::black_box;

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall, munlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use crate::audio::Nanos;
use crate::process::Priority;
use crate::system::set_realtime_priority;

/// Stack of the audio thread. alsa-lib's parser of its configuration takes the most of it.
pub const STACK: usize = 512 << 10;
/// How much of it is there from the start: what the data path uses many times over.
const STACK_IN_USE: usize = 32 << 10;

/// Keeps all memory that this process ever touches. Memory is not touched for that: a card stays as
/// small as it is, and pays for each page once, when it is first used. The driver's memory is not
/// meant: the kernel driver's file cannot be swapped, and a virtual machine's is its own affair.
pub fn lock_memory() {
    let on_fault = MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT as nix::libc::c_int);
    let all = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault;
    // Whoever may do so has no limit; with CAP_IPC_LOCK, none counts.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let locked = mlockall(all).and_then(|()| {
        if has_room_beyond_the_limit() {
            return Ok(());
        }
        munlockall()?;
        Err(Errno::ENOMEM)
    });
    if let Err(error) = locked {
        log::warn!(
            "memory is not locked ({}): sound may stutter where the system swaps; allow it with \
             LimitMEMLOCK=infinity in the systemd unit, CAP_IPC_LOCK, or 'memlock unlimited' in \
             /etc/security/limits.d",
            error.desc()
        );
    }
}

/// A limit counts what is mapped, not what is there, and would make the mapping of the driver's
/// memory fail once everything to come is locked: then nothing must be.
fn has_room_beyond_the_limit() -> bool {
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft);
    let Some(more) = limit
        .checked_add(1 << 20)
        .filter(|_| limit != RLIM_INFINITY)
    else {
        return limit == RLIM_INFINITY;
    };
    let mut room: Vec<u8> = Vec::new();
    let reserved = usize::try_from(more).is_ok_and(|more| room.try_reserve_exact(more).is_ok());
    black_box(room);
    reserved
}

/// Gives the calling thread its priority, as far as this process may.
pub fn enter(priority: Priority) {
    if priority != Priority::Ordinary {
        touch_stack();
    }
    let Priority::Fifo(priority) = priority else {
        return;
    };
    let Err(error) = set_realtime_priority(priority) else {
        return;
    };
    let granted = lower_priority(priority);
    let what = match granted {
        Some(lower) => format!("priority {lower} instead of {priority}"),
        None => "no real-time priority".to_owned(),
    };
    log::warn!(
        "the audio thread has {what} ({}): other programs may delay sound; allow it with \
         LimitRTPRIO={priority} in the systemd unit, CAP_SYS_NICE, or 'rtprio {priority}' in \
         /etc/security/limits.d; --rt-priority 0 does without",
        error.desc()
    );
}

/// The highest priority that this process's limit allows, once the thread has it.
fn lower_priority(priority: u8) -> Option<u8> {
    let (_, hard) = getrlimit(Resource::RLIMIT_RTPRIO).ok()?;
    setrlimit(Resource::RLIMIT_RTPRIO, hard, hard).ok()?;
    let allowed = priority.min(u8::try_from(hard).unwrap_or(u8::MAX));
    (allowed > 0 && set_realtime_priority(allowed).is_ok()).then_some(allowed)
}

/// The pages of the stack that sound needs are there before it runs.
#[inline(never)]
fn touch_stack() {
    black_box(&mut [0u8; STACK_IN_USE]);
}

/// How much the audio thread has worked without a break. A driver could keep it from sleeping for ever,
/// with kicks and requests, and a real-time thread that does not sleep keeps everybody else from
/// the processor. (The kernel's own brake may be off, and RLIMIT_RTTIME would end the process.)
#[derive(Debug, Default)]
pub struct Stint {
    /// When the thread was up last.
    up: Nanos,
    /// Its work that it has not slept off yet.
    work: Nanos,
    /// The processor time that it had had before that, where it is known.
    used: Option<Nanos>,
}

impl Stint {
    /// More work than this comes from no driver that plays sound.
    const LONGEST: Nanos = 4_000_000;
    /// How much work a sleep makes up for: one part in five belongs to the others.
    const WORK_FOR_SLEEP: Nanos = 4;
    /// No rest is longer,
    const LONGEST_REST: Nanos = 20_000_000;
    /// or than this where the work may have been a wait, for a disk or for the processor.
    const LONGEST_DOUBTFUL: Nanos = 4_000_000;
    /// A shorter sleep is none.
    const SLEEP: Nanos = 20_000;

    /// The thread lay down at `before` and is up again `now`. Returns how long it is to rest, if at all, after
    /// which it has not worked yet. `used` tells how much processor time it has had in its life.
    pub fn rest(
        &mut self,
        before: Nanos,
        now: Nanos,
        used: impl FnOnce() -> Nanos,
    ) -> Option<Nanos> {
        let slept = now.saturating_sub(before);
        if slept >= Self::SLEEP {
            self.work = self.work.saturating_add(before.saturating_sub(self.up));
            let made_up = slept.saturating_mul(Self::WORK_FOR_SLEEP);
            self.work = self.work.saturating_sub(made_up);
            if self.work == 0 {
                self.used = None;
            }
        } else {
            self.work = self.work.saturating_add(now.saturating_sub(self.up));
        }
        self.up = now;
        if self.work < Self::LONGEST {
            return None;
        }
        let used = used();
        let rest = match self.used.replace(used) {
            Some(before) => {
                let work = self.work.min(used.saturating_sub(before));
                (work / Self::WORK_FOR_SLEEP).min(Self::LONGEST_REST)
            }
            None => (self.work / Self::WORK_FOR_SLEEP).min(Self::LONGEST_DOUBTFUL),
        };
        self.work = 0;
        self.up = now.saturating_add(rest);
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a thread is sent to rest in a thousand times of work and sleep.
    fn rests(work: Nanos, sleep: Nanos) -> usize {
        let (mut stint, mut now) = (Stint::default(), 1_000_000_000);
        let mut used = 0;
        stint.rest(0, now, || used);
        let mut is_sent = || {
            let before = now + work;
            now = before + sleep;
            used += work;
            let rest = stint.rest(before, now, || used);
            now += rest.unwrap_or(0);
            rest.is_some()
        };
        (0..1000).filter(|_| is_sent()).count()
    }

    #[test]
    fn a_thread_that_sleeps_a_fifth_of_the_time_is_never_sent_to_rest() {
        for work in [80_000, 3_900_000, 40_000_000] {
            assert_eq!(rests(work, work / 4), 0, "{work}");
        }
    }

    /// As where a busy machine takes the processor from it now and then.
    #[test]
    fn a_thread_that_sleeps_for_moments_alone_is_sent_to_rest_all_the_same() {
        assert!(rests(3_900_000, Stint::SLEEP) >= 400);
        assert!(rests(1_000_000, 100_000) >= 100);
    }

    #[test]
    fn who_has_much_to_do_at_a_time_rests_longer_but_not_for_ever() {
        for (work, first, next) in [
            (12_000_000, 3_000_000, 3_000_000),
            (60_000_000, 4_000_000, 15_000_000),
            (800_000_000, 4_000_000, 20_000_000),
        ] {
            let (mut stint, up) = (Stint::default(), 1_000_000_000);
            stint.rest(0, up, || 0);
            let now = up + work;
            assert_eq!(stint.rest(now, now, || work), Some(first));
            let now = now + first + work;
            assert_eq!(stint.rest(now, now, || 2 * work), Some(next));
        }
    }

    /// Of what has been slept off before, nothing counts.
    #[test]
    fn who_has_waited_for_the_processor_does_not_rest_for_long() {
        let (mut stint, mut now, second) = (Stint::default(), 1_000_000_000, 1_000_000_000);
        stint.rest(0, now, || 0);
        now += second;
        assert_eq!(stint.rest(now, now, || second), Some(4_000_000));
        now += 4_000_000 + 2 * second;
        assert_eq!(stint.rest(now - second, now, || 2 * second), None);
        now += 100_000_000;
        assert_eq!(stint.rest(now, now, || 2 * second), Some(4_000_000));
        now += 4_000_000 + 100_000_000;
        let used = 2 * second + 400_000;
        assert_eq!(stint.rest(now, now, || used), Some(100_000));
    }

    #[test]
    fn a_thread_that_is_kept_awake_rests_a_fifth_of_the_time() {
        let (mut stint, mut now) = (Stint::default(), 1_000_000_000);
        let (mut worked, mut rested) = (0, 0);
        stint.rest(0, now, || 0);
        for _ in 0..100_000 {
            // Work, and a sleep that a kick ends at once.
            let before = now + 10_000;
            now = before + 1000;
            worked += 11_000;
            if let Some(rest) = stint.rest(before, now, || worked) {
                rested += rest;
                now += rest;
            }
        }
        assert!(rested * 4 >= worked * 99 / 100, "{rested} of {worked}");
        assert!(rested * 4 <= worked, "{rested} of {worked}");
    }
}
