// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A sandbox cannot be left: each thing is tried in a process of its own, which is this test program
//! again.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, exit};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use vm_memory::MmapRegion;

mod kernel;

use super::*;
use crate::description::{Stream, StreamHost};
use crate::wire::Direction;

/// Says in the environment what is to be tried, and where.
const CASE: &str = "SANDBOX_CASE";
const FOLDER: &str = "SANDBOX_FOLDER";

/// Runs one case; how its process ended.
fn inside(case: &str, folder: &Path) -> ExitStatus {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args([
        "--exact",
        "sandbox::tests::a_case",
        "--ignored",
        "--nocapture",
    ]);
    program.env(CASE, case).env(FOLDER, folder);
    program.stdout(std::process::Stdio::null());
    let _ = fs::remove_file(socket(folder));
    program.status().unwrap()
}

/// A card that records into the folder; of a case about devices, one that plays on a card of the machine.
fn needs(case: &str, folder: &Path) -> Needs {
    let host = match case {
        "devices" => StreamHost::Alsa("hw:0".to_owned()),
        _ => StreamHost::File(folder.join("out.wav")),
    };
    let description = crate::description::Description {
        streams: vec![Stream::new(Direction::Playback, 0, host)],
        ..Default::default()
    };
    let mut needs = Needs::of(&description);
    needs.add_socket(&socket(folder));
    if case == "devices" {
        // A card that every machine has.
        needs.devices.push(devices(folder));
    }
    needs
}

fn devices(folder: &Path) -> PathBuf {
    folder.join("snd")
}

/// How devices are opened.
fn as_device() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true);
    options.custom_flags(nix::libc::O_NONBLOCK);
    options
}

/// The card's socket has a folder of its own.
fn socket(folder: &Path) -> PathBuf {
    folder.join("run").join("socket")
}

#[test]
#[ignore = "the other tests run it, in processes of their own"]
fn a_case() {
    let Ok(case) = std::env::var(CASE) else {
        return;
    };
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let _ = fs::create_dir(folder.join("run"));
    let lacks = kernel::lacks();
    let mut sandbox = Sandbox::new(needs(&case, &folder), &[]);
    let before = File::open("/proc/self/stat").unwrap();
    let cards = openable(&folder);
    sandbox.confine();
    sandbox.rights(Priority::Ordinary).drop_others();
    let listener = UnixListener::bind(socket(&folder)).unwrap();
    let client = UnixStream::connect(socket(&folder)).unwrap();
    sandbox.seal();
    if !sandbox.off.is_empty() {
        let report = sandbox.to_string();
        let off = kernel::needlessly_off(&report, &lacks);
        assert!(off.is_empty(), "{off:?}: {report}");
        eprintln!("{report}");
        exit(77);
    }
    let good = match case.as_str() {
        "nothing" => true,
        "serve" => serve(&folder, before, &listener, client),
        "files" => files(&folder),
        "devices" => devices_alone(&folder, &cards),
        "absent" => absent(&folder),
        fatal => attack(fatal),
    };
    exit(if good { 0 } else { 1 });
}

/// What a card that records does all the time.
fn serve(
    folder: &Path,
    mut opened_before: File,
    listener: &UnixListener,
    mut client: UnixStream,
) -> bool {
    let mut text = String::new();
    opened_before.read_to_string(&mut text).unwrap();
    let thread = std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_millis(1)));
    thread.join().unwrap();
    for number in [1, 2, 2] {
        let path = crate::description::numbered(&folder.join("out.wav"), number);
        File::create(path).unwrap().write_all(b"RIFF").unwrap();
    }
    client.write_all(b"x").unwrap();
    listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
    fs::remove_file(socket(folder)).unwrap();
    true
}

fn denied(result: std::io::Result<()>) {
    let kind = result.map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::PermissionDenied));
}

/// What it may not open, make or remove.
fn files(folder: &Path) -> bool {
    for path in ["/etc/passwd", "/proc/self/mem", "/dev/null", "/usr/bin/env"] {
        denied(File::open(path).map(drop));
    }
    denied(File::open(folder.join("secret")).map(drop));
    denied(fs::read_dir(folder).map(drop));
    let beside = folder.parent().unwrap().join("outside-of-the-sandbox");
    denied(File::create(beside).map(drop));
    denied(fs::rename(folder.join("secret"), folder.join("other")));
    denied(fs::remove_file(folder.join("secret")));
    denied(fs::create_dir(folder.join("folder")));
    // Not even to look whether somebody is there.
    let parent = nix::unistd::getppid();
    assert!(nix::sys::signal::kill(parent, None).is_err());
    true
}

/// The cards that this user may open. Their PCMs are left to those who play on them.
fn openable(folder: &Path) -> Vec<PathBuf> {
    let folders = [PathBuf::from("/dev/snd"), devices(folder)];
    let found = folders.iter().filter_map(|it| fs::read_dir(it).ok());
    let devices = found.flatten().map(|device| device.unwrap().path());
    let is_pcm = |path: &PathBuf| path.to_string_lossy().contains("/pcm");
    let cards = devices.filter(|path| !is_pcm(path) && as_device().open(path).is_ok());
    cards.collect()
}

/// A card of the machine has those, and no others; what alsa-lib reads, it does not write.
fn devices_alone(folder: &Path, cards: &[PathBuf]) -> bool {
    assert_eq!(openable(folder), cards);
    assert!(cards.contains(&devices(folder).join("card")));
    let others = ["/dev/null", "/dev/zero", "/dev/kmsg", "/dev/tty"];
    let secrets = ["/etc/shadow", "/proc/self/mem", "/proc/self/environ"];
    for path in others.iter().chain(&secrets).map(Path::new) {
        // A container may have less.
        if path.exists() {
            denied(as_device().open(path).map(drop));
            denied(File::open(path).map(drop));
        }
    }
    denied(fs::read_dir("/dev").map(drop));
    denied(File::open(folder.join("secret")).map(drop));
    assert!(File::open("/etc/passwd").is_ok() && fs::read_dir("/usr").is_ok());
    denied(as_device().open("/etc/passwd").map(drop));
    denied(File::create("/usr/outside-of-the-sandbox").map(drop));
    denied(File::create(devices(folder).join("other")).map(drop));
    denied(fs::remove_file(devices(folder).join("card")));
    true
}

/// Calls that fail as in a kernel that does not have them.
fn absent(folder: &Path) -> bool {
    let spawned = Command::new("/bin/true").spawn().map(drop);
    assert_eq!(
        spawned.unwrap_err().raw_os_error(),
        Some(Errno::ENOSYS as i32)
    );
    let parent = nix::unistd::getppid();
    let killed = nix::sys::signal::kill(parent, Signal::SIGTERM);
    assert_eq!(killed, Err(Errno::ENOSYS));
    let connected = UnixStream::connect(socket(folder)).map(drop);
    assert_eq!(
        connected.unwrap_err().raw_os_error(),
        Some(Errno::ENOSYS as i32)
    );
    assert!(std::os::unix::net::UnixDatagram::pair().is_err());
    // Landlock says nothing of either.
    let open_to_all = fs::set_permissions(folder, fs::Permissions::from_mode(0o777));
    assert_eq!(
        open_to_all.unwrap_err().raw_os_error(),
        Some(Errno::ENOSYS as i32)
    );
    let watch = nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::empty());
    assert_eq!(watch.map(drop), Err(Errno::ENOSYS));
    let (pair, _other) = UnixStream::pair().unwrap();
    let flags = |flags| nix::fcntl::fcntl(&pair, nix::fcntl::FcntlArg::F_SETFL(flags));
    assert_eq!(flags(nix::fcntl::OFlag::O_NONBLOCK), Ok(0));
    assert_eq!(flags(nix::fcntl::OFlag::O_ASYNC), Err(Errno::ENOSYS));
    let code = nix::libc::PROT_READ | nix::libc::PROT_EXEC;
    let flags = nix::libc::MAP_PRIVATE | nix::libc::MAP_ANONYMOUS;
    assert!(MmapRegion::<()>::build(None, 4096, code, flags).is_err());
    assert!(MmapRegion::<()>::build(None, 4096, nix::libc::PROT_READ, flags).is_ok());
    true
}

/// Each of them is the last thing that this process does.
const ATTACKS: [&str; 10] = [
    "execve", "ptrace", "memory", "mount", "unshare", "setns", "chroot", "network", "pair",
    "module",
];

fn attack(which: &str) -> bool {
    let here = File::open("/proc/self/ns/mnt");
    match which {
        "execve" => drop(Command::new("/bin/true").exec()),
        "ptrace" => drop(nix::sys::ptrace::traceme()),
        "memory" => {
            let remote = nix::sys::uio::RemoteIoVec { base: 0, len: 1 };
            let mut byte = [0];
            let local = &mut [std::io::IoSliceMut::new(&mut byte)];
            let _ = nix::sys::uio::process_vm_readv(nix::unistd::getppid(), local, &[remote]);
        }
        "mount" => drop(nix::mount::umount("/nowhere")),
        "unshare" => drop(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)),
        "setns" => {
            let (any, _other) = UnixStream::pair().unwrap();
            let namespace = nix::sched::CloneFlags::CLONE_NEWNET;
            let _ = here.map(drop);
            let _ = nix::sched::setns(any, namespace);
        }
        "chroot" => drop(nix::unistd::chroot("/")),
        "network" => drop(TcpStream::connect("127.0.0.1:1")),
        "pair" => {
            use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
            let flags = SockFlag::empty();
            let _ = socketpair(AddressFamily::Tipc, SockType::Stream, None, flags);
        }
        "module" => drop(nix::kmod::delete_module(
            c"none",
            nix::kmod::DeleteModuleFlags::empty(),
        )),
        other => panic!("no such case: {other}"),
    }
    false
}

/// Whether this kernel has all parts of the sandbox. Where it does not, the program goes on without,
/// and there is nothing to try; that it says so proves nothing.
fn complete(folder: &Path) -> bool {
    let status = inside("nothing", folder);
    assert!(matches!(status.code(), Some(0 | 77)), "{status}");
    status.success()
}

#[test]
fn a_card_can_serve_in_its_sandbox() {
    let folder = tempfile::tempdir().unwrap();
    if complete(folder.path()) {
        assert!(inside("serve", folder.path()).success());
        assert!(folder.path().join("out-2.wav").exists());
    }
}

#[test]
fn files_and_processes_outside_of_it_are_out_of_reach() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "x").unwrap();
    if complete(folder.path()) {
        assert!(inside("files", folder.path()).success());
    }
}

#[test]
fn a_card_of_the_machine_can_use_devices_of_sound_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "x").unwrap();
    fs::create_dir(devices(folder.path())).unwrap();
    fs::write(devices(folder.path()).join("card"), "x").unwrap();
    if complete(folder.path()) {
        assert!(inside("devices", folder.path()).success());
    }
}

#[test]
fn what_a_library_may_try_fails_and_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    if complete(folder.path()) {
        assert!(inside("absent", folder.path()).success());
    }
}

#[test]
fn what_only_an_attacker_does_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    if complete(folder.path()) {
        for attack in ATTACKS {
            let status = inside(attack, folder.path());
            assert_eq!(
                status.signal(),
                Some(Signal::SIGSYS as i32),
                "{attack}: {status}"
            );
        }
    }
}

#[test]
fn a_card_of_the_machine_needs_its_cards_and_what_alsa_reads() {
    let alsa = Stream::new(Direction::Playback, 0, StreamHost::Alsa("hw:0".to_owned()));
    let null = Stream::new(Direction::Capture, 0, StreamHost::Null);
    let card = |streams| crate::description::Description {
        streams,
        ..Default::default()
    };
    assert_eq!(Needs::of(&card(vec![null.clone()])), Needs::default());
    let needs = Needs::of(&card(vec![null, alsa.clone(), alsa]));
    assert!(needs.loads_code && needs.write.is_empty() && needs.sockets.is_empty());
    // Never more of /dev, also where no card has come yet.
    assert_eq!(needs.devices, [PathBuf::from("/dev/snd")]);
    assert!(needs.read.contains(&PathBuf::from("/etc/asound.conf")));
    assert!(!needs.read.contains(&PathBuf::from("/etc")));
}
