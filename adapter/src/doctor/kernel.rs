// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Checks of the kernel: can it have our module, and does it have the driver of the cards?

use std::env::consts::ARCH;
use std::io::Read;

use flate2::read::GzDecoder;

use super::finding::Finding;
use super::machine::Machine;

/// The first kernel with virtio_snd.
const FIRST_WITH_SOUND: (u32, u32) = (5, 13);
/// Kernels from here on have `ARCH_HAS_DMA_OPS` in the place of `DMA_OPS` ...
const FIRST_ARCH_DMA_OPS: (u32, u32) = (6, 12);
/// ... and from here on virtio has map operations of its own.
const FIRST_VIRTIO_MAP: (u32, u32) = (6, 18);
/// No configuration of a kernel is longer.
const LONGEST_CONFIG: u64 = 4 << 20;

/// What there is to know of the kernel that runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Kernel {
    /// Its release, such as 6.12.95-amd64.
    pub(super) release: String,
    /// The first two numbers of it.
    version: (u32, u32),
    /// Its configuration, if that is anywhere.
    config: Option<String>,
    /// Its modules, by `modules.dep`.
    modules: Option<String>,
    /// What is built in, by `modules.builtin`.
    builtin: String,
    /// virtio_snd is in the kernel now.
    has_virtio_snd: bool,
    /// virtio_loopback is in the kernel now.
    has_virtio_loopback: bool,
    /// A file that keeps virtio_snd from being loaded by itself.
    blacklist: Option<String>,
    /// The distribution: ID and VERSION_CODENAME of os-release.
    distribution: (String, String),
}

impl Kernel {
    pub(super) fn of(machine: &Machine) -> Self {
        let release = machine
            .text("/proc/sys/kernel/osrelease")
            .unwrap_or_default();
        let modules = format!("/lib/modules/{release}");
        let configs = [
            format!("/boot/config-{release}"),
            format!("{modules}/config"),
            format!("{modules}/build/.config"),
        ];
        let config = configs.iter().find_map(|path| machine.text(path));
        Self {
            version: version_of(&release),
            config: config.or_else(|| config_of_running_kernel(machine)),
            modules: machine.text(&format!("{modules}/modules.dep")),
            builtin: machine
                .text(&format!("{modules}/modules.builtin"))
                .unwrap_or_default(),
            has_virtio_snd: machine.exists("/sys/module/virtio_snd"),
            has_virtio_loopback: machine.exists("/sys/module/virtio_loopback"),
            blacklist: blacklist(machine),
            distribution: distribution(machine),
            release,
        }
    }

    /// Whether a module of this name can be loaded.
    pub(super) fn has_module(&self, name: &str) -> bool {
        let file = format!("/{name}.ko");
        let modules = self.modules.as_deref().unwrap_or_default();
        let mut paths = modules.lines().filter_map(|line| line.split(':').next());
        paths.any(|path| format!("/{path}").contains(&file))
    }

    /// The value of a kernel option: `y`, `m`, or `n` for one that is not set; `None` where the
    /// configuration is nowhere.
    fn option(&self, name: &str) -> Option<&str> {
        let lines = self.config.as_deref()?.lines();
        let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        Some(values.next().unwrap_or("n"))
    }

    fn is_debian(&self) -> bool {
        self.distribution.0 == "debian"
    }
}

fn version_of(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
    (next(), next())
}

/// Many kernels of small systems have it in themselves.
fn config_of_running_kernel(machine: &Machine) -> Option<String> {
    let file = std::fs::File::open(machine.path("/proc/config.gz")).ok()?;
    let mut text = String::new();
    let mut unpacked = GzDecoder::new(file).take(LONGEST_CONFIG);
    unpacked.read_to_string(&mut text).ok()?;
    Some(text)
}

fn blacklist(machine: &Machine) -> Option<String> {
    let files = machine.configuration(super::rules::MODPROBE_FOLDERS, ".conf");
    let says_so = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        matches!(words[..], ["blacklist", "virtio_snd" | "virtio-snd"])
    };
    let file = files
        .into_iter()
        .find(|file| file.text.lines().any(says_so))?;
    Some(file.path)
}

fn distribution(machine: &Machine) -> (String, String) {
    let text = machine.text("/etc/os-release").unwrap_or_default();
    let value = |name: &str| {
        let mut values = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        values
            .next()
            .unwrap_or_default()
            .trim_matches('"')
            .to_owned()
    };
    (value("ID"), value("VERSION_CODENAME"))
}

/// Whether virtqueues of ours can be mapped by this kernel.
pub(super) fn dma(kernel: &Kernel) -> Finding {
    const CHECK: &str = "dma";
    let option = match kernel.version {
        version if version >= FIRST_VIRTIO_MAP => {
            let text = format!("kernel {}: virtio maps memory by itself", kernel.release);
            return Finding::not_applicable(CHECK, text);
        }
        version if version >= FIRST_ARCH_DMA_OPS => "CONFIG_ARCH_HAS_DMA_OPS",
        _ => "CONFIG_DMA_OPS",
    };
    if kernel.has_virtio_loopback {
        return Finding::ok(
            CHECK,
            "the module is there, so this kernel can map its memory",
        );
    }
    match kernel.option(option) {
        Some("y") => Finding::ok(CHECK, format!("{option}=y")),
        Some(_) => {
            let text = format!(
                "kernel {} is without {option}, so the module cannot be built for it: take another \
                 kernel, or build this one with it (arm64: CONFIG_XEN=y brings it)",
                kernel.release
            );
            another_kernel(kernel, Finding::wrong(CHECK, text))
        }
        None => Finding::not_applicable(
            CHECK,
            format!("the kernel's configuration is nowhere to be read; it needs {option}=y"),
        ),
    }
}

/// Whether the kernel knows how to drive a sound card of ours.
pub(super) fn virtio_snd(kernel: &Kernel) -> Finding {
    const CHECK: &str = "virtio_snd";
    let release = &kernel.release;
    if kernel.has_virtio_snd {
        return Finding::ok(CHECK, "the driver of the cards is in the kernel");
    }
    if kernel.builtin.contains("/virtio_snd.ko") {
        return Finding::ok(CHECK, "the driver of the cards is built into the kernel");
    }
    if kernel.has_module(CHECK) {
        return match &kernel.blacklist {
            None => Finding::ok(
                CHECK,
                "the kernel loads the driver when the first card comes",
            ),
            Some(file) => {
                let text = format!("{file} keeps the driver from being loaded with the first card");
                Finding::warn(CHECK, text).mended_by("modprobe virtio_snd")
            }
        };
    }
    let option = kernel.option("CONFIG_SND_VIRTIO");
    if kernel.version < FIRST_WITH_SOUND {
        let text = format!("kernel {release} is too old: virtio_snd came with 5.13");
        return another_kernel(kernel, Finding::wrong(CHECK, text));
    }
    match (option, &kernel.modules) {
        (Some("n"), _) => {
            let text = format!(
                "kernel {release} was built without it (CONFIG_SND_VIRTIO is not set): take another \
                 kernel, or build this one with CONFIG_SND_VIRTIO=m"
            );
            another_kernel(kernel, Finding::wrong(CHECK, text))
        }
        (_, None) => {
            let text =
                format!("the list of modules, /lib/modules/{release}/modules.dep, is missing");
            Finding::wrong(CHECK, text).mended_by(format!("depmod {release}"))
        }
        (Some(_), Some(_)) => {
            let text = format!("kernel {release} has it as a module that is not installed");
            let extra = format!("apt-get install linux-modules-extra-{release}");
            match kernel.distribution.0.as_str() {
                "ubuntu" => Finding::wrong(CHECK, text).mended_by(extra),
                _ => Finding::wrong(CHECK, text).mended_by(format!("depmod {release}")),
            }
        }
        (None, Some(_)) => {
            let text = format!("kernel {release} has no driver for the cards (CONFIG_SND_VIRTIO)");
            another_kernel(kernel, Finding::wrong(CHECK, text))
        }
    }
}

/// Where there is a package with a kernel that has what is missing.
fn another_kernel(kernel: &Kernel, finding: Finding) -> Finding {
    let machine = match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        _ => return finding,
    };
    match kernel.distribution.1.as_str() {
        "bookworm" | "bullseye" if kernel.is_debian() => finding.mended_by(format!(
            "apt-get install -t {}-backports linux-image-{machine}",
            kernel.distribution.1
        )),
        _ if kernel.is_debian() => {
            finding.mended_by(format!("apt-get install linux-image-{machine}"))
        }
        _ => finding,
    }
}

/// The package with what modules are built with.
pub(super) fn headers(kernel: &Kernel) -> Option<String> {
    let debian = kernel.is_debian() || kernel.distribution.0 == "ubuntu";
    debian.then(|| format!("apt-get install linux-headers-{}", kernel.release))
}

#[cfg(test)]
mod tests;
