// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Checks of our kernel module: is it there, and the right one, now and after the next boot?

use super::finding::Finding;
use super::kernel::{Kernel, headers};
use super::machine::Machine;

const MODULE: &str = "virtio_loopback";
/// Version of this program; the module of the same release has the same.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Where what is loaded at boot is named.
const BOOT_FOLDERS: &[&str] = &[
    "/etc/modules-load.d",
    "/run/modules-load.d",
    "/usr/local/lib/modules-load.d",
    "/usr/lib/modules-load.d",
];

/// What there is to know of the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Module {
    /// It is in the kernel now.
    loaded: bool,
    /// Its version, if it says so.
    version: Option<String>,
    /// It can be loaded.
    installed: bool,
    /// Its source is where DKMS builds it from.
    source: bool,
    /// DKMS is installed.
    dkms: bool,
    /// What modules are built with is installed for this kernel.
    headers: bool,
    /// It is loaded at boot.
    at_boot: bool,
}

impl Module {
    pub(super) fn of(machine: &Machine, kernel: &Kernel) -> Self {
        let sources = machine.names("/usr/src");
        let dkms = ["/usr/sbin/dkms", "/usr/bin/dkms"];
        let mut boot = machine.configuration(BOOT_FOLDERS, ".conf");
        boot.extend(machine.configuration(&["/etc"], "modules"));
        let names_it = |line: &str| line.trim().replace('-', "_") == MODULE;
        Self {
            loaded: machine.exists("/sys/module/virtio_loopback"),
            version: machine.text("/sys/module/virtio_loopback/version"),
            installed: kernel.has_module(MODULE),
            source: sources
                .iter()
                .any(|name| name.starts_with("virtio-loopback-")),
            dkms: dkms.iter().any(|path| machine.exists(path)),
            headers: machine.exists(&format!("/lib/modules/{}/build/Makefile", kernel.release)),
            at_boot: boot.iter().any(|file| file.text.lines().any(names_it)),
        }
    }
}

/// Whether the module is loaded, or what keeps it from that.
pub(super) fn loaded(module: &Module, kernel: &Kernel) -> Finding {
    const CHECK: &str = "module";
    let release = &kernel.release;
    if module.loaded {
        return match module.version.as_deref() {
            Some(version) if version != VERSION => {
                let text = format!(
                    "the module that is loaded is of version {version}, this program of {VERSION}: \
                     install both from one release and load the module again (without cards)"
                );
                let command = format!("modprobe -r {MODULE} && modprobe {MODULE}");
                Finding::warn(CHECK, text).mended_by(command)
            }
            _ => Finding::ok(CHECK, format!("{MODULE} {VERSION} is loaded")),
        };
    }
    if module.installed {
        let text = format!("{MODULE} is not loaded");
        return Finding::wrong(CHECK, text).mended_by(format!("modprobe {MODULE}"));
    }
    if !module.source {
        let text = format!("{MODULE} is not installed");
        let command = "make install   # where virtio-loopback's sources are";
        return Finding::wrong(CHECK, text).mended_by(command);
    }
    if !module.headers {
        let text = format!("{MODULE} is not built for kernel {release}: its headers are missing");
        let finding = Finding::wrong(CHECK, text);
        return match headers(kernel) {
            Some(command) => finding.mended_by(command),
            None => finding,
        };
    }
    let text = format!("{MODULE} is not built for kernel {release}");
    let finding = Finding::wrong(CHECK, text);
    match module.dkms {
        true => finding.mended_by(format!("dkms autoinstall -k {release}")),
        false => finding.mended_by("make install   # where virtio-loopback's sources are"),
    }
}

/// Whether it will be there after the next boot.
pub(super) fn at_boot(module: &Module) -> Finding {
    const CHECK: &str = "boot";
    if module.at_boot {
        return Finding::ok(CHECK, format!("{MODULE} is loaded at boot"));
    }
    let text = format!("nothing loads {MODULE} at boot, and only root may do so later");
    let command = format!("echo {MODULE} > /etc/modules-load.d/virtio-loopback.conf");
    Finding::warn(CHECK, text).mended_by(command)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::machine::tests::Faked;
    use super::*;

    const RELEASE: &str = "6.12.9-amd64";

    fn faked() -> Faked {
        let faked = Faked::new();
        faked.put("proc/sys/kernel/osrelease", RELEASE);
        faked.put("etc/os-release", "ID=debian\nVERSION_CODENAME=trixie\n");
        faked
    }

    fn examine(faked: &Faked) -> (Finding, Finding) {
        let machine = faked.machine();
        let kernel = Kernel::of(&machine);
        let module = Module::of(&machine, &kernel);
        (loaded(&module, &kernel), at_boot(&module))
    }

    /// The command that mends the module as it is now.
    fn mend(faked: &Faked) -> String {
        let (finding, _) = examine(faked);
        assert_eq!(finding.verdict, Verdict::Wrong);
        finding.mend.unwrap()
    }

    #[test]
    fn each_step_to_a_loaded_module_has_its_command() {
        let faked = faked();
        assert!(mend(&faked).starts_with("make install"), "nothing is there");
        faked.put("usr/src/virtio-loopback-0.1.0/dkms.conf", "");
        assert_eq!(
            mend(&faked),
            format!("apt-get install linux-headers-{RELEASE}")
        );
        faked.put(&format!("lib/modules/{RELEASE}/build/Makefile"), "");
        assert!(mend(&faked).starts_with("make install"), "no dkms");
        faked.put("usr/sbin/dkms", "");
        assert_eq!(mend(&faked), format!("dkms autoinstall -k {RELEASE}"));
        let modules = "updates/dkms/virtio_loopback.ko.xz:\n";
        faked.put(&format!("lib/modules/{RELEASE}/modules.dep"), modules);
        assert_eq!(mend(&faked), "modprobe virtio_loopback");
        faked.put(
            "sys/module/virtio_loopback/version",
            &format!("{VERSION}\n"),
        );
        assert_eq!(examine(&faked).0.verdict, Verdict::Ok);
        faked.put("sys/module/virtio_loopback/version", "0.0.9\n");
        let (other, _) = examine(&faked);
        assert_eq!(other.verdict, Verdict::Warn);
        assert!(other.text.contains("0.0.9"), "{}", other.text);
    }

    #[test]
    fn without_a_package_manager_the_headers_are_only_named() {
        let faked = faked();
        faked.put("usr/src/virtio-loopback-0.1.0/dkms.conf", "");
        faked.put("etc/os-release", "ID=poky\n");
        let (finding, _) = examine(&faked);
        assert!(
            finding.text.contains("headers are missing"),
            "{}",
            finding.text
        );
        assert_eq!(finding.mend, None);
    }

    #[test]
    fn what_is_loaded_at_boot_is_named_in_one_of_several_places() {
        let faked = faked();
        let verdict = || examine(&faked).1.verdict;
        faked.put(
            "etc/modules-load.d/a.conf",
            "# virtio_loopback\nsnd_aloop\n",
        );
        assert_eq!(verdict(), Verdict::Warn);
        assert!(
            examine(&faked)
                .1
                .mend
                .unwrap()
                .contains("> /etc/modules-load.d/")
        );
        faked.put("usr/lib/modules-load.d/v.conf", "virtio-loopback\n");
        assert_eq!(verdict(), Verdict::Ok);
        faked.put("etc/modules-load.d/v.conf", "");
        assert_eq!(
            verdict(),
            Verdict::Warn,
            "hidden by an empty file of the same name"
        );
        faked.put("etc/modules", "virtio_loopback\n");
        assert_eq!(verdict(), Verdict::Ok);
    }
}
