// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::super::finding::Verdict;
use super::super::machine::tests::Faked;
use super::*;

/// A machine with a kernel of this release, its list of modules and its configuration.
fn faked(release: &str, modules: &str, config: &str) -> Faked {
    let faked = Faked::new();
    faked.put("proc/sys/kernel/osrelease", &format!("{release}\n"));
    faked.put(&format!("lib/modules/{release}/modules.dep"), modules);
    faked.put(&format!("boot/config-{release}"), config);
    faked.put("etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n");
    faked
}

const SOUND: &str = "kernel/sound/virtio/virtio_snd.ko.xz: kernel/sound/core/snd.ko.xz\n";

fn sound(faked: &Faked) -> Finding {
    virtio_snd(&Kernel::of(&faked.machine()))
}

#[test]
fn a_driver_that_can_be_loaded_is_right() {
    let machine = faked("6.12.9-amd64", SOUND, "CONFIG_SND_VIRTIO=m\n");
    assert_eq!(sound(&machine).verdict, Verdict::Ok);
    machine.put("lib/modules/6.12.9-amd64/modules.dep", "");
    let builtin = "kernel/sound/virtio/virtio_snd.ko\n";
    machine.put("lib/modules/6.12.9-amd64/modules.builtin", builtin);
    assert!(sound(&machine).text.contains("built into"));
    machine.remove("lib/modules/6.12.9-amd64");
    machine.make("sys/module/virtio_snd");
    assert!(sound(&machine).text.contains("in the kernel"));
}

#[test]
fn a_kernel_without_the_driver_says_why() {
    let old = sound(&faked("5.10.0-30-amd64", "", "CONFIG_SND=m\n"));
    assert_eq!(old.verdict, Verdict::Wrong);
    assert!(old.text.contains("came with 5.13"), "{}", old.text);

    let machine = faked("6.1.0-53-amd64", "", "# CONFIG_SND_VIRTIO is not set\n");
    let unset = sound(&machine);
    assert!(
        unset.text.contains("CONFIG_SND_VIRTIO is not set"),
        "{}",
        unset.text
    );
    if cfg!(target_arch = "x86_64") {
        let command = "apt-get install -t bookworm-backports linux-image-amd64";
        assert_eq!(unset.mend.as_deref(), Some(command));
    }
    machine.put("etc/os-release", "ID=poky\n");
    assert_eq!(sound(&machine).mend, None, "no package is known there");

    let machine = faked("6.12.9-amd64", "", "CONFIG_SND_VIRTIO=m\n");
    assert!(sound(&machine).text.contains("not installed"));
    machine.put("etc/os-release", "ID=ubuntu\n");
    let extra = "apt-get install linux-modules-extra-6.12.9-amd64";
    assert_eq!(sound(&machine).mend.as_deref(), Some(extra));
    machine.remove("lib/modules/6.12.9-amd64");
    assert_eq!(sound(&machine).mend.as_deref(), Some("depmod 6.12.9-amd64"));
}

#[test]
fn a_driver_that_is_kept_out_is_named_with_the_file_that_does_it() {
    let machine = faked("6.12.9-amd64", SOUND, "CONFIG_SND_VIRTIO=m\n");
    machine.put(
        "etc/modprobe.d/no.conf",
        "# blacklist virtio_snd\nblacklist virtio_net\n",
    );
    assert_eq!(sound(&machine).verdict, Verdict::Ok);
    machine.put("etc/modprobe.d/sound.conf", "blacklist  virtio_snd\n");
    let kept = sound(&machine);
    assert_eq!(kept.verdict, Verdict::Warn);
    assert!(
        kept.text.contains("/etc/modprobe.d/sound.conf"),
        "{}",
        kept.text
    );
    assert_eq!(kept.mend.as_deref(), Some("modprobe virtio_snd"));
    machine.make("sys/module/virtio_snd");
    assert_eq!(sound(&machine).verdict, Verdict::Ok);
}

#[test]
fn the_option_for_dma_is_that_of_the_kernels_version() {
    let verdict = |release, config| dma(&Kernel::of(&faked(release, "", config).machine())).verdict;
    assert_eq!(verdict("6.1.0", "CONFIG_DMA_OPS=y\n"), Verdict::Ok);
    assert_eq!(
        verdict("6.11.0", "CONFIG_ARCH_HAS_DMA_OPS=y\n"),
        Verdict::Wrong
    );
    assert_eq!(verdict("6.12.0", "CONFIG_DMA_OPS=y\n"), Verdict::Wrong);
    assert_eq!(
        verdict("6.17.1", "CONFIG_ARCH_HAS_DMA_OPS=y\n"),
        Verdict::Ok
    );
    assert_eq!(verdict("6.18.0", ""), Verdict::NotApplicable);
    assert_eq!(verdict("7.2.1", ""), Verdict::NotApplicable);
    let machine = faked("6.1.0", "", "");
    machine.make("sys/module/virtio_loopback");
    let loaded = dma(&Kernel::of(&machine.machine()));
    assert_eq!(
        loaded.verdict,
        Verdict::Ok,
        "a module that is there was built"
    );
}

#[test]
fn a_configuration_may_be_in_the_kernel_itself_or_nowhere() {
    let machine = faked("6.1.0", "", "");
    machine.remove("boot");
    let unknown = dma(&Kernel::of(&machine.machine()));
    assert_eq!(unknown.verdict, Verdict::NotApplicable);
    assert!(unknown.text.contains("nowhere"), "{}", unknown.text);
    machine.put("proc/config.gz", "not packed");
    assert!(Kernel::of(&machine.machine()).config.is_none());
    let file = std::fs::File::create(machine.machine().path("/proc/config.gz")).unwrap();
    let mut packed = GzEncoder::new(file, Compression::default());
    packed.write_all(b"CONFIG_DMA_OPS=y\n").unwrap();
    packed.finish().unwrap();
    assert_eq!(dma(&Kernel::of(&machine.machine())).verdict, Verdict::Ok);
}

#[test]
fn a_release_is_two_numbers_and_more() {
    assert_eq!(version_of("6.12.95+deb12-amd64"), (6, 12));
    assert_eq!(version_of("7.2-rc1"), (7, 2));
    assert_eq!(version_of("5.10.218-yocto-standard"), (5, 10));
    assert_eq!(version_of(""), (0, 0));
}

#[test]
fn modules_are_told_apart_by_their_whole_names() {
    let modules = "updates/dkms/virtio_loopback.ko.zst:\nkernel/x/my_virtio_snd.ko: a.ko\n";
    let kernel = Kernel::of(&faked("6.12.9", modules, "").machine());
    assert!(kernel.has_module("virtio_loopback"));
    assert!(!kernel.has_module("virtio_snd"));
    assert!(!kernel.has_module("a"), "what it needs is not itself");
}
