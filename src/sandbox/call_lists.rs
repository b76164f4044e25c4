// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which system calls the sandbox knows. Those that depend on their arguments are in `calls.rs`.

use nix::libc::*;

/// What this program, the C library and the libraries of sound make while sound runs, while cards and
/// frontends come and go, and at the end.
#[rustfmt::skip]
pub const ALLOWED: &[i64] = &[
    // Memory.
    SYS_brk, SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect, SYS_madvise, SYS_mincore, SYS_msync,
    SYS_mlock, SYS_mlock2, SYS_munlock, SYS_mlockall, SYS_munlockall, SYS_membarrier,
    SYS_memfd_create,
    // Files, as far as landlock lets them be opened.
    SYS_openat, SYS_openat2, SYS_close, SYS_close_range, SYS_read, SYS_readv, SYS_pread64,
    SYS_preadv, SYS_preadv2, SYS_write, SYS_writev, SYS_pwrite64, SYS_pwritev, SYS_pwritev2,
    SYS_lseek, SYS_fstat, SYS_newfstatat, SYS_statx, SYS_statfs, SYS_fstatfs, SYS_faccessat,
    SYS_faccessat2, SYS_readlinkat, SYS_getdents64, SYS_getcwd, SYS_flock, SYS_dup,
    SYS_dup3, SYS_pipe2, SYS_ftruncate, SYS_fallocate, SYS_fsync, SYS_fdatasync, SYS_fadvise64,
    SYS_copy_file_range, SYS_unlinkat, SYS_renameat, SYS_renameat2, SYS_mkdirat, SYS_umask,
    // Waiting, and time.
    SYS_ppoll, SYS_pselect6, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2,
    SYS_eventfd2, SYS_signalfd4, SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime,
    SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday,
    SYS_restart_syscall, SYS_getitimer, SYS_setitimer, SYS_times,
    // Threads and signals.
    SYS_futex_waitv, SYS_set_robust_list, SYS_get_robust_list, SYS_rseq,
    SYS_set_tid_address, SYS_gettid, SYS_sched_yield, SYS_sched_getaffinity,
    SYS_sched_getscheduler, SYS_sched_getparam, SYS_sched_getattr, SYS_sched_get_priority_max,
    SYS_sched_get_priority_min, SYS_getcpu, SYS_exit, SYS_exit_group, SYS_sigaltstack,
    SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigtimedwait,
    SYS_rt_sigpending, SYS_rt_sigsuspend,
    // Sockets that are there, and their clients. Others: `calls.rs`.
    SYS_accept, SYS_accept4, SYS_getsockname,
    SYS_getpeername, SYS_getsockopt, SYS_setsockopt, SYS_sendmsg, SYS_recvmsg, SYS_sendto,
    SYS_recvfrom, SYS_sendmmsg, SYS_recvmmsg, SYS_shutdown,
    // Who and where this process is.
    SYS_getpid, SYS_getppid, SYS_getpgid, SYS_getuid, SYS_geteuid, SYS_getgid,
    SYS_getegid, SYS_getresuid, SYS_getresgid, SYS_getgroups, SYS_capget, SYS_uname, SYS_sysinfo,
    SYS_getrandom, SYS_getrusage, SYS_getpriority,
];

/// Older forms of the same, which other architectures do not have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub const ALLOWED_ON_X86: &[i64] = &[
    SYS_open, SYS_creat, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_getdents, SYS_dup2,
    SYS_pipe, SYS_unlink, SYS_rename, SYS_mkdir, SYS_poll,
    SYS_select, SYS_epoll_create, SYS_epoll_wait, SYS_eventfd, SYS_time, SYS_getrlimit,
    SYS_getpgrp, SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
pub const ALLOWED_ON_X86: &[i64] = &[];

/// What shows when files come and go, as those of cards and sound servers.
pub const WATCHING: &[i64] = &[
    SYS_inotify_init1,
    SYS_inotify_add_watch,
    SYS_inotify_rm_watch,
];
#[cfg(target_arch = "x86_64")]
pub const WATCHING_ON_X86: &[i64] = &[SYS_inotify_init];
#[cfg(not(target_arch = "x86_64"))]
pub const WATCHING_ON_X86: &[i64] = &[];

/// What no part of this program ever makes.
#[rustfmt::skip]
pub const FATAL: &[i64] = &[
    // Other programs, and other processes' memory.
    SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev,
    SYS_pidfd_getfd,
    // Another view of the system.
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_move_mount, SYS_open_tree, SYS_fsopen,
    SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_mount_setattr, SYS_unshare, SYS_setns,
    SYS_open_by_handle_at,
    // Another kernel.
    SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot, SYS_bpf,
    SYS_perf_event_open, SYS_userfaultfd, SYS_swapon, SYS_swapoff, SYS_acct,
    // Keys, names and times that others rely on.
    SYS_add_key, SYS_request_key, SYS_keyctl, SYS_settimeofday, SYS_clock_settime,
    SYS_clock_adjtime, SYS_adjtimex, SYS_sethostname, SYS_setdomainname, SYS_quotactl,
];

/// The same, which other architectures do not have.
#[cfg(target_arch = "x86_64")]
pub const FATAL_ON_X86: &[i64] = &[SYS_iopl, SYS_ioperm, SYS_modify_ldt, SYS_kexec_file_load];
#[cfg(not(target_arch = "x86_64"))]
pub const FATAL_ON_X86: &[i64] = &[];
