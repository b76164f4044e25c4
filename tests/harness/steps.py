# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The steps of `make test`, `make check` and `make test-kernels`, in order of preference."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
HARNESS = REPOSITORY / "tests" / "harness"
BUILD = pathlib.Path(os.environ.get("BUILD") or REPOSITORY / "build")
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "virtio-loopback"
VENV = CACHE / "venv" / "bin"
CARGO = str(HARNESS / "cargo")
PROGRAMS = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target") / "release"
CARGO_DENY = ["cargo-deny", "0.20.2"]
# Devices that are not ours.
STRANGERS = [["vhost-device-rng", "0.1.0"],
             ["vhost-device-sound", "0.3.0", "--no-default-features", "--features", "pw-backend"]]
ADVISORY_SECONDS = 60  # how long its database may take to come

DEBUG_KERNELS = ["6.12-debug", "6.12-kcsan"]  # `make test-debug-kernels` boots these
FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS") or 3600)
SHORT_FUZZ_SECONDS = 30
FEW_FAILED = 3  # up to so many tests are run again, see Step.run()
KERNELS = ["5.10", "6.1", "6.12", "6.12-rt", "7.2"]  # the driver builds against these
MAIN_KERNEL = "6.12"  # `make test` boots this one
TEST_KERNELS = ["6.1", "6.12-rt", "7.2"]  # `make test-kernels` boots these
VM_SECONDS = 4200
DEBUG_VM_SECONDS = 6 * 3600
TWO_CPUS = ["--vm=--cpus", "--vm=2"]
QUICKENED = ["--vm=--quicken", "--vm=15", "--vm=--memory", "--vm=4G"]  # for a kernel that watches itself
# More that KCSAN looks at, with two CPUs.
RACES = ["isolation*", "removed_in_use", "rights", "status", "jacks", "mixer", "many_overloaded"]
FUZZER = "build the fuzzer of the control file"
JUDGES = "get the kernel's own tests of sound cards"
UNIT_TESTS = "build unit tests for a virtual machine"
RUST_VMM = "get devices of rust-vmm"
SOUND_SERVERS = "get PipeWire and WirePlumber, two versions"

# Its last line, and of what failed the names and the reasons.
PYTEST_CLOSING = r"^(=+ .*\b(passed|failed|error|errors|skipped)\b.* =+|(FAILED|ERROR) \S+::.*|E +\S.*)$"
ENVIRONMENT = {"CARGO_TERM_COLOR": "never", "CARGO_TERM_PROGRESS_WHEN": "never", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclasses.dataclass
class Result:
    """How a step went: ok, unsteady, FAILED, skipped or not run."""

    state: str
    seconds: float
    closing: list[str]


@dataclasses.dataclass
class Step:
    """One line of the table."""

    name: str
    commands: list[list[str]]
    needs: list[str] = dataclasses.field(default_factory=list)  # steps that must have succeeded
    alone: str = ""  # steps with the same word here never run at the same time
    live: str = ""  # shows its output as it comes, behind this word
    fresh: pathlib.Path | None = None  # a folder that is emptied first
    faults: Callable[[list[str]], list[str]] | None = None  # finds faults in the output of a success
    again: Callable[[list[str]], list[str]] | None = None  # the command that runs these tests of pytest's alone
    closing: str = ""  # what a test runner's closing lines look like
    may_skip: bool = False  # exit status 77 means that it cannot be done here
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    kinds: tuple[str, ...] = ("all", "lint")

    @property
    def after(self):
        return set(self.needs)

    @property
    def file_name(self):
        return re.sub(r"[^A-Za-z0-9.]+", "-", self.name).strip("-")

    def closing_lines(self, lines):
        return [line for line in lines if re.search(self.closing, line)] if self.closing else []

    def run(self, log, show):
        """Runs the commands one after the other into `log`; returns the state. A few tests that have failed are run
        once more, alone: where they pass then, the step is unsteady, which the table and the last lines say."""
        if self.fresh:
            shutil.rmtree(self.fresh, ignore_errors=True)
        lines, state = [], "ok"
        with log.open("w") as out:
            for command in self.commands:
                status = self._run_command(command, out, lines, show)
                if status == 77 and self.may_skip:
                    return "skipped"
                if status == 1 and self.again and (failed := failed_tests(lines)):
                    state, command = "unsteady", self.again(failed)
                    status = self._run_command(command, out, lines, show)
                if status != 0:
                    out.write(f"exit status {status}: {' '.join(command)}\n")
                    return "FAILED"
            faults = self.faults(lines) if self.faults else []
            out.writelines(f"fault: {fault}\n" for fault in faults)
        return "FAILED" if faults else state

    def _run_command(self, command, out, lines, show):
        # The virtual machine has a core to itself; the rest stands back.
        nice = [] if self.live == "vm" else ["nice", "-n", "5"]
        process = subprocess.Popen(
            nice + command, cwd=REPOSITORY, env={**os.environ, **ENVIRONMENT, **self.environment},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )
        for line in process.stdout:
            out.write(line)
            out.flush()
            lines.append(line.rstrip("\n"))
            if show:
                show(line.rstrip("\n"))
        return process.wait()


def failed_tests(lines):
    """The tests that have failed, of what pytest has printed. None where those are many, or where anything was wrong
    besides: a complaint of the kernel, a panic, a leak, something left behind."""
    failed = [found[1] for line in lines if (found := re.match(r"(?:FAILED|ERROR) (\S+::.+?)( - .*)?$", line))]
    more = any(re.match(r"_+ ERROR at teardown of ", line) for line in lines)
    return [] if more or len(failed) > FEW_FAILED else failed


def compiler_warnings(lines):
    """Warnings of a kernel build, without the one about Debian's choice of compiler."""
    known = "the compiler differs from the one used to build the kernel"
    return [line for line in lines if re.search(r"\b(warning|error)\b:", line, re.IGNORECASE) and known not in line]


def warnings_about_ours(lines):
    """sparse also sees the kernel's own headers; what it says of them is not ours to mend."""
    return [line for line in compiler_warnings(lines) if "linux-headers-" not in line]


def modules(kernel):
    """Commands that build the driver, and the module that the tests of sleep need."""
    build = str(HARNESS / "build-module")
    return [[build, kernel, str(BUILD / kernel)],
            [build, "--source", "tests/vm/keep_awake", kernel, str(BUILD / f"keep-awake-{kernel}")]]


def build_steps():
    every = ("all", "debug", "kernels")
    build = [CARGO, "build", "--release", "--locked"]
    example = [*build, "--package", "virtio-loopback", "--example", "vhost-user-rng"]
    yield Step("build the programs", [[*build, "--workspace"], example], alone="cargo release", kinds=every)
    yield Step(UNIT_TESTS, [[str(HARNESS / "build-unit-tests"), str(PROGRAMS / "examples" / "unit-tests")]],
               needs=["build the programs"], alone="cargo", kinds=every)
    yield Step(f"build the driver for {MAIN_KERNEL}", modules(MAIN_KERNEL), kinds=("all",))
    yield Step(FUZZER, [[str(HARNESS / "build-fuzzer")]], kinds=every)
    yield Step(JUDGES, [[str(HARNESS / "kernels"), "selftests", "6.12"]], kinds=every)
    yield Step(RUST_VMM, [[str(HARNESS / "get-tool"), *stranger] for stranger in STRANGERS], kinds=every)
    yield Step(SOUND_SERVERS, [[str(HARNESS / "sound-servers"), "0.5", "0.4"]], kinds=every)


def virtual_machine_step(kernel, selection, kinds, *needs, seconds=VM_SECONDS, report="", options=()):
    driver = f"build the driver for {kernel}"

    def command(tests, folder):
        return [str(HARNESS / "vm-tests"), "--kernel", kernel, "--module", str(BUILD / kernel / "virtio_loopback.ko"),
                "--binaries", str(PROGRAMS), "--report", str(BUILD / folder), "--time-limit", str(seconds),
                *options, "--", "-v", *tests]

    report = report or f"vm-{kernel}"
    shown = [word for word in selection if word == "-s"]
    return Step(
        f"tests in a virtual machine, kernel {kernel}", [command(selection, report)],
        again=(lambda failed: command([*shown, *failed], f"{report}-again")) if kernel == MAIN_KERNEL else None,
        needs=["build the programs", FUZZER, driver, *needs], live="vm", kinds=kinds, alone="vm",
        closing=PYTEST_CLOSING,
    )


def all_tests_steps(kernel, kinds, options=(), **keywords):
    """All tests in a kernel: in two guests, so that both of a machine's CPUs have something to do."""
    second = ("driver_*", "hostile_*")
    needs = [JUDGES, UNIT_TESTS, RUST_VMM, SOUND_SERVERS]
    others = [f"--ignore-glob={REPOSITORY}/tests/vm/test_{name}.py" for name in second]
    yield virtual_machine_step(kernel, others, kinds, *needs, options=options, **keywords)
    step = virtual_machine_step(kernel, vm_test_files(*second), kinds, *needs, report=f"vm-{kernel}-second",
                                options=options, **keywords)
    yield dataclasses.replace(step, name=f"{step.name}, second guest", alone="second vm")


def overload_step():
    """Two CPUs, both overloaded, one of them taken away, or one that spins: that shows only there."""
    selection = [*vm_test_files("overload", "many_overloaded", "hotplug", "driver_console"), "-s"]  # -s: for the table
    step = virtual_machine_step(MAIN_KERNEL, selection, ("all",), report="overload", options=TWO_CPUS)
    return dataclasses.replace(step, name="cards on overloaded CPUs", alone="second vm",
                               closing=rf"{PYTEST_CLOSING}|(navigation|music) +(yes|no) +\d|^priority +card|\d cards, ")


def two_cpus_step(kernel, kinds, seconds=VM_SECONDS, options=(), more=()):
    """What takes two CPUs, and what two of them may do at once."""
    files = vm_test_files("hotplug", "driver_*", "hostile_*", *more)
    step = virtual_machine_step(kernel, files, kinds, seconds=seconds, report=f"vm-{kernel}-two-cpus",
                                options=[*options, *TWO_CPUS])
    return dataclasses.replace(step, name=f"{step.name}, two CPUs")


def vm_test_files(*names):
    return [str(file) for name in names for file in sorted((REPOSITORY / "tests" / "vm").glob(f"test_{name}.py"))]


def fuzz_step():
    """The fuzzer of the control file for a short time, in the everyday kernel; see debug_kernel_steps()."""
    return Step("fuzz the control file, short", [[str(HARNESS / "fuzz"), MAIN_KERNEL, str(SHORT_FUZZ_SECONDS)]],
                needs=[FUZZER, f"build the driver for {MAIN_KERNEL}"], alone="second vm", kinds=("all",),
                closing=r"^fuzzed for ")


def qemu_step():
    """The sound device outside, a virtual machine with its card: not in the mode of the other tests,
    whose clock has nothing to do with this machine's."""
    return Step(
        "a virtual machine's sound card, QEMU",
        [[str(VENV / "python"), "-B", "-m", "pytest", "-p", "no:cacheprovider", "-s", "-v", "-ra",
          f"--rootdir={REPOSITORY / 'tests' / 'qemu'}", str(REPOSITORY / "tests" / "qemu")]],
        needs=["build the programs"], kinds=("all",), alone="vm", closing=PYTEST_CLOSING,
        environment={"VIRTIO_LOOPBACK_BINARIES": str(PROGRAMS)},
    )


def benchmark_step():
    """A short run of the benchmark: everything can be measured, and the counts are possible."""
    return Step("benchmark, short",
                [[str(REPOSITORY / "tests" / "bench" / "run"), "--quick",
                  "--module", str(BUILD / MAIN_KERNEL / "virtio_loopback.ko"), "--binaries", str(PROGRAMS),
                  "--output", str(BUILD / "bench-short")]],
                needs=["build the programs", f"build the driver for {MAIN_KERNEL}"], alone="vm", kinds=("all",),
                closing=r"^ +(aims met|FAULT)")


def service_steps():
    """What a person installs: files, units on a real systemd, Debian packages."""
    built = ["build the programs"]
    prepare = ["make", "--no-print-directory", "man", "completions"]
    yield Step("write man pages and completions", [prepare], needs=built, kinds=("all",), alone="cargo release")
    written = [*built, "write man pages and completions"]
    yield Step("make install, make uninstall", [[str(REPOSITORY / "tests" / "install" / "run"), str(PROGRAMS)]],
               needs=written, kinds=("all",))
    systemd = [str(REPOSITORY / "tests" / "systemd" / "run"), str(BUILD / MAIN_KERNEL / "virtio_loopback.ko"),
               str(PROGRAMS), str(BUILD / "systemd")]
    yield Step("units on a real systemd", [systemd],
               again=lambda failed: [*systemd, *sorted({test.split("::")[0] for test in failed})],
               needs=[*written, f"build the driver for {MAIN_KERNEL}"], alone="vm", kinds=("all",),
               closing=PYTEST_CLOSING)
    yield Step("Debian packages in a clean Debian",
               [[str(HARNESS / "build-deb"), str(PROGRAMS)], [str(REPOSITORY / "tests" / "debian" / "run")]],
               needs=written, kinds=("all",), closing=r"^\d+ passed, \d+ failed$")


def kernel_test_steps():
    for kernel in TEST_KERNELS:
        yield Step(f"fetch kernel {kernel}", [[str(HARNESS / "kernels"), "sound", kernel]], kinds=("kernels",))
        yield Step(f"build the driver for {kernel}", modules(kernel),
                   needs=[f"fetch kernel {kernel}"], kinds=("kernels",))
        if kernel.endswith("-rt"):
            # All tests: where interrupts are threads and spin locks sleep, much is otherwise.
            yield from all_tests_steps(kernel, ("kernels",))
            yield two_cpus_step(kernel, ("kernels",))
        else:
            yield virtual_machine_step(kernel, ["-m", "core"], ("kernels",))


def debug_kernel_steps():
    """The tests, and the fuzzer of the control file, in kernels that watch themselves; with failures in the
    one that can."""
    debug = ("debug",)
    for kernel in DEBUG_KERNELS:
        built = f"build kernel {kernel}"
        yield Step(built, [[str(HARNESS / "build-kernel"), kernel]], kinds=debug, alone="build kernel")
        yield Step(f"build the driver for {kernel}", modules(kernel), needs=[built], kinds=debug)
        yield from all_tests_steps(kernel, debug, seconds=DEBUG_VM_SECONDS, options=QUICKENED)
        more = RACES if kernel == "6.12-kcsan" else []
        yield two_cpus_step(kernel, debug, seconds=DEBUG_VM_SECONDS, options=QUICKENED, more=more)
        fuzz = [str(HARNESS / "fuzz"), kernel, str(FUZZ_SECONDS)]
        runs = [[*fuzz, "1"], [*fuzz, "2", "--inject"]] if kernel == "6.12-debug" else [[*fuzz, "1"]]
        yield Step(f"fuzz the control file, kernel {kernel}", runs, needs=[built], kinds=debug, live="vm",
                   alone="vm", closing=r"^fuzzed for ")


def driver_steps():
    """The driver built without a warning against every kernel, sparse, checkpatch."""
    checked = BUILD / "check"
    for kernel in KERNELS:
        yield Step(f"fetch the headers of kernel {kernel}", [[str(HARNESS / "kernels"), "headers", kernel]])
        yield Step(f"driver: W=1 on {kernel}",
                   [[str(HARNESS / "build-module"), kernel, str(checked / kernel), "W=1"]],
                   needs=[f"fetch the headers of kernel {kernel}"], fresh=checked / kernel, faults=compiler_warnings)
    yield Step(f"driver: sparse on {MAIN_KERNEL}",
               [[str(HARNESS / "build-module"), MAIN_KERNEL, str(checked / "sparse"), "C=2"]],
               needs=[f"fetch the headers of kernel {MAIN_KERNEL}"], fresh=checked / "sparse",
               faults=warnings_about_ours)
    yield Step("driver: checkpatch", [[str(HARNESS / "checkpatch")]])


def script_steps():
    yield Step("licence lines, host names, paths", [[str(HARNESS / "source-rules")]])
    yield Step("shell: shellcheck", [[str(HARNESS / "lint-scripts"), "shell"]])
    yield Step("python: ruff", [[str(HARNESS / "lint-scripts"), "python"]])


def feature_sets():
    """The distinct feature sets to lint: default, none, all, and each feature alone.

    Yields (name, cargo arguments); sets that come to the same are linted once.
    """
    metadata = json.loads(subprocess.run([CARGO, "metadata", "--no-deps", "--format-version", "1"], cwd=REPOSITORY,
                                         check=True, capture_output=True, text=True).stdout)
    features = {package["name"]: package["features"] for package in metadata["packages"]}

    def closure(package, chosen):
        reached, left = set(), list(chosen)
        while left:
            feature = left.pop()
            if feature in features[package] and feature not in reached:
                reached.add(feature)
                left += features[package][feature]
        return frozenset((package, feature) for feature in reached - {"default"})

    candidates = [
        ("default", [], frozenset().union(*(closure(name, ["default"]) for name in features))),
        ("none", ["--no-default-features"], frozenset()),
        ("all", ["--all-features"], frozenset().union(*(closure(name, features[name]) for name in features))),
    ]
    for package, known in features.items():
        for feature in sorted(set(known) - {"default"}):
            arguments = ["--no-default-features", "--features", f"{package}/{feature}"]
            candidates.append((f"{feature} alone", arguments, closure(package, [feature])))
    named = {}
    for name, arguments, chosen in candidates:
        named.setdefault(chosen, ([], arguments))[0].append(name)
    for names, arguments in named.values():
        yield " = ".join(names), arguments


def rust_steps():
    cargo = {"alone": "cargo"}
    yield Step("rust: fmt", [[CARGO, "fmt", "--all", "--check"]])
    for name, arguments in feature_sets():
        yield Step(f"rust: clippy, features {name}",
                   [[CARGO, "clippy", "--locked", "--workspace", "--all-targets", *arguments, "--", "-D", "warnings"]],
                   **cargo)
    # As cargo-fuzz builds them, which takes a nightly compiler's sanitizers besides.
    yield Step("rust: clippy, fuzz targets",
               [[CARGO, "clippy", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", "target/fuzz",
                 "--", "-D", "warnings"]],
               environment={"RUSTFLAGS": "--cfg fuzzing"}, **cargo)
    yield Step("rust: doc", [[CARGO, "doc", "--locked", "--workspace", "--no-deps", "--all-features"]],
               environment={"RUSTDOCFLAGS": "-D warnings"}, **cargo)
    yield Step("rust: unit and socket tests",
               [[CARGO, "test", "--locked", "--workspace", "--all-features", "--no-fail-fast"]],
               closing=r"^( +Running | +Doc-tests |test result: |test .*FAILED$)", kinds=("all",), **cargo)
    tool = "rust: get cargo-deny (once)"
    yield Step(tool, [[str(HARNESS / "get-tool"), *CARGO_DENY]])
    yield Step("rust: cargo deny licenses bans sources",
               [[CARGO, "deny", "--locked", "--all-features", "check", "licenses", "bans", "sources"]], needs=[tool])
    yield Step("rust: cargo deny advisories",
               [[str(HARNESS / "check-advisories"), str(ADVISORY_SECONDS)]], needs=[tool], may_skip=True)


def plan(what, only):
    """The steps for `what` whose names contain `only`, with the steps those need."""
    first, second = all_tests_steps(MAIN_KERNEL, ("all",))
    chosen = [*build_steps(), first]
    if what == "kernels":
        chosen += kernel_test_steps()
    elif what == "debug":
        chosen += debug_kernel_steps()
    else:
        chosen += [*script_steps(), *driver_steps(), *rust_steps()]
    chosen += [second, overload_step(), fuzz_step(), qemu_step(), *service_steps(), benchmark_step()]
    chosen = [step for step in chosen if what in step.kinds]
    wanted = {step.name for step in chosen if only.lower() in step.name.lower()}
    for step in reversed(chosen):
        if step.name in wanted:
            wanted.update(step.needs)
    return [step for step in chosen if step.name in wanted]
