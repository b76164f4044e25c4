# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""What the fuzzer of the control file takes for a report of our driver's, and for the end of the watch."""

import pytest
from fuzz.reports import lockdep_watches, ours, reports

INTERRUPTED = """\
[   74.03] BUG: KCSAN: data-race in __hrtimer_run_queues / hrtimer_active

[   74.04] read to 0xff3500339e41ff98 of 8 bytes by interrupt on cpu 1:
[   74.05]  hrtimer_active+0x69/0xd0
[   74.06]  asm_sysvec_apic_timer_interrupt+0x1a/0x20
[   74.07]  vl_bounce_init+0x1ef/0x2e0 [virtio_loopback]

[   74.08] write to 0xff3500339e41ff98 of 8 bytes by interrupt on cpu 0:
[   74.09]  __hrtimer_run_queues+0x115/0x420
[   74.10]  hrtimer_interrupt+0x1ce/0x3c0
"""
FAR_BELOW = """\
[ 1112.76] BUG: KCSAN: data-race in smp_call_function_many_cond+0x8b/0x8d0

[ 1112.77] race at unknown origin, with read to 0xff35003340142100 of 8 bytes by task 467 on cpu 0:
[ 1112.78]  smp_call_function_many_cond+0x8b/0x8d0
[ 1112.79]  on_each_cpu_cond_mask+0x42/0x70
[ 1112.80]  flush_tlb_mm_range+0x121/0x180
[ 1112.81]  tlb_finish_mmu+0x241/0x380
[ 1112.82]  vl_memory_zap_stale+0xa0/0x180 [virtio_loopback]

[ 1112.83] Workqueue: virtio-loopback vl_memory_zap_work [virtio_loopback]
"""
IN_A_LIST = """\
[   12.01] BUG: KCSAN: data-race in __list_add_valid / vl_queue_reset

[   12.02] read to 0xff35003340142100 of 8 bytes by task 467 on cpu 0:
[   12.03]  __list_add_valid+0x8b/0x8d0
[   12.04]  vl_request_add+0x42/0x70 [virtio_loopback]

[   12.05] write to 0xff35003340142100 of 8 bytes by task 468 on cpu 1:
[   12.06]  other_function+0x42/0x70
"""
IN_THE_FILES = """\
[   12.01] BUG: KCSAN: data-race in init_file / init_file

[   12.02] write to 0xff2e5145803c2440 of 4 bytes by task 218 on cpu 1:
[   12.03]  init_file+0x2a/0x130
[   12.04]  alloc_empty_file+0x92/0x1c0
[   12.05]  alloc_file_pseudo+0xfa/0x150
[   12.06]  vl_memory_file_open+0x82/0x100 [virtio_loopback]

[   12.07] write to 0xff2e5145803c2440 of 4 bytes by task 217 on cpu 0:
[   12.08]  init_file+0x2a/0x130
[   12.09]  alloc_empty_file+0x92/0x1c0
"""
KASAN = """\
[   12.01] BUG: KASAN: slab-use-after-free in somebody+0x12/0x40
[   12.02]  somebody+0x12/0x40
"""
LEAKS = """\
unreferenced object 0xff11000008304900 (size 192):
  backtrace (crc 44a73b22):
    vl_device_create+0x280/0x470 [virtio_loopback]
unreferenced object 0xff11000008715200 (size 192):
  backtrace (crc 537b1a46):
    virtsnd_pcm_ctl_msg_alloc+0x33/0x100 [virtio_snd]
    virtsnd_pcm_sync_stop+0x175/0x400 [virtio_snd]
    snd_pcm_sync_stop+0xdc/0x1d0 [snd_pcm]
    snd_pcm_dev_disconnect+0x38d/0x7e0 [snd_pcm]
unreferenced object 0xff11000008715300 (size 192):
  backtrace (crc 537b1a46):
    virtsnd_ctl_msg_alloc+0x175/0x400 [virtio_snd]
"""
LOCKDEP_OFF = """\
[   12.01] INFO: lockdep is turned off.
[   12.02]  ? lockdep_hardirqs_on+0x7c/0x100
"""
OBJECTS_OFF = "[   12.01] ODEBUG: Out of memory. ODEBUG disabled\n"


@pytest.mark.parametrize(
    "log, expected",
    [
        (INTERRUPTED, [False]),
        (FAR_BELOW, [False]),
        (IN_A_LIST, [True]),
        (IN_THE_FILES, [False]),
        (KASAN, [True]),
        (LEAKS, [True, False, True]),
        (LOCKDEP_OFF, [True]),
        (OBJECTS_OFF, [True]),
        ("[ 1.0] loaded", []),
    ],
    ids=["interrupted", "far-below", "list", "files", "kasan", "leaks", "lockdep-off", "objects-off", "none"],
)
def test_a_report_is_ours(log, expected):
    assert [ours(report) for report in reports(log)] == expected


@pytest.mark.parametrize("locks, expected", [(1, True), (0, False)])
def test_lockdep_watches(tmp_path, locks, expected):
    stats = tmp_path / "lockdep_stats"
    assert lockdep_watches(stats), "there is nothing to give up"
    stats.write_text(f" lock-classes:  1105 [max: 8192]\n debug_locks:  {locks}\n")
    assert lockdep_watches(stats) == expected
