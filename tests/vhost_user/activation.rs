// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device as a service manager starts it: sockets handed over, a log for its journal; and the
//! command socket that the adapter names in the environment.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::card::Card;
use crate::device::{Device, program, wait_for_end};
use crate::driver::LIMIT;
use crate::frontend::EVENT_IDX;
use crate::respawn::worker;

/// What a shell does before it becomes the device: its standard input is the first socket, its
/// standard output the second.
const HAND_OVER: &str = "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_PID=$$ exec \"$0\" \"$@\"";

/// The device program with these sockets, as a service manager would start it in `folder`.
fn activated(folder: &Path, script: &str, sockets: Vec<OwnedFd>, options: &[&str]) -> Command {
    let program = program();
    let mut command = Command::new("sh");
    command
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .env("LISTEN_FDS", sockets.len().to_string())
        .args(["-c", script])
        .arg(program.get_program())
        .arg("--socket-activation")
        .args(options);
    let mut streams = sockets.into_iter().map(Stdio::from);
    command.stdin(streams.next().unwrap_or(Stdio::null()));
    command.stdout(streams.next().unwrap_or(Stdio::null()));
    command
}

fn listen(folder: &Path, name: &str) -> OwnedFd {
    UnixListener::bind(folder.join(name)).unwrap().into()
}

/// Runs to the end, which has to be an error with all of these words.
fn fails(mut command: Command, words: &[&str]) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let status = wait_for_end(&mut child);
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{error}");
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
    assert_eq!(error.lines().count(), 1, "{error}");
}

fn end(mut child: Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert!(wait_for_end(&mut child).success());
}

/// What `tell PATH status` says, as soon as it is answered.
fn status(path: &Path) -> String {
    let end = Instant::now() + LIMIT;
    loop {
        let output = program().arg("tell").arg(path).arg("status").output();
        let output = output.unwrap();
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap();
        }
        assert!(Instant::now() < end, "no answer: {output:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn sockets_that_were_handed_over_are_served_and_left_there() {
    for two in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut sockets = vec![listen(folder, "socket")];
        if two {
            sockets.push(listen(folder, "commands"));
        }
        // A frontend may come before the device does.
        let early = UnixStream::connect(folder.join("socket")).unwrap();
        let child = activated(folder, HAND_OVER, sockets, &[]).spawn().unwrap();
        let mut card = Card::unattached([256; 4], EVENT_IDX);
        card.reattach(early);
        card.expect_service();
        if two {
            assert!(status(&folder.join("commands")).contains("driver  attached"));
        }
        drop(card);
        let mut card = Card::unattached([256; 4], EVENT_IDX);
        card.reattach(UnixStream::connect(folder.join("socket")).unwrap());
        card.expect_service();
        drop(card);
        end(child);
        assert!(folder.join("socket").exists());
        assert_eq!(folder.join("commands").exists(), two);
    }
}

#[test]
fn a_card_that_nobody_uses_is_left_to_the_service_manager() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let start = || {
        let _ = fs::remove_file(folder.join("socket"));
        let sockets = vec![listen(folder, "socket")];
        let mut command = activated(folder, HAND_OVER, sockets, &["-v"]);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let socket = UnixStream::connect(folder.join("socket")).unwrap();
        (child, socket)
    };
    let ends = |mut child: Child, words: &str| {
        assert!(wait_for_end(&mut child).success());
        let log = child.wait_with_output().unwrap().stderr;
        let log = String::from_utf8(log).unwrap();
        assert!(log.contains(words), "{log}");
    };
    // Nobody has used it yet.
    let (child, socket) = start();
    drop(socket);
    ends(child, "nobody has come to use the card");
    // Its driver has let go of it: the next one is to find the card as it is described then.
    let (child, socket) = start();
    let mut card = Card::unattached([256; 4], EVENT_IDX);
    card.reattach(socket);
    card.expect_service();
    card.leave();
    ends(child, "nobody uses the card any more");
}

#[test]
fn who_asks_after_a_card_that_nobody_uses_does_not_keep_it_there() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sockets = vec![listen(folder, "socket"), listen(folder, "commands")];
    let mut child = activated(folder, HAND_OVER, sockets, &[]).spawn().unwrap();
    assert!(status(&folder.join("commands")).contains("driver  none"));
    assert!(wait_for_end(&mut child).success());
}

#[test]
fn a_frontend_waits_behind_one_that_has_died() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sockets = vec![listen(folder, "socket")];
    let options = ["--host", "null", "--respawn"];
    let mut command = activated(folder, HAND_OVER, sockets, &options);
    let child = command.spawn().unwrap();
    let guard = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let connect = || UnixStream::connect(folder.join("socket")).unwrap();
    let (mut card, mut kept) = (Card::unattached([256; 4], EVENT_IDX), None);
    card.reattach_keeping(connect(), &mut kept);
    card.expect_service();
    // The process that comes next finds both.
    drop(connect());
    let next = connect();
    kill(worker(guard, None), Signal::SIGKILL).unwrap();
    card.detach();
    card.reattach_keeping(next, &mut kept);
    card.expect_service();
    drop(card);
    end(child);
}

#[test]
fn sockets_that_are_not_there_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let nobody = "exec \"$0\" \"$@\"";
    let command = || activated(folder, nobody, Vec::new(), &[]);
    fails(command(), &["LISTEN_PID is not set", "--socket-path"]);
    let mut other = command();
    other.env("LISTEN_PID", "1");
    fails(other, &["LISTEN_PID is 1,", "this is process", "the unit"]);
    let unset = "unset LISTEN_FDS; LISTEN_PID=$$ exec \"$0\" \"$@\"";
    fails(
        activated(folder, unset, Vec::new(), &[]),
        &["LISTEN_FDS is not set"],
    );
    for wrong in ["0", "3", "-1", "x", "1 "] {
        let mut command = activated(folder, HAND_OVER, Vec::new(), &[]);
        command.env("LISTEN_FDS", wrong);
        fails(command, &[&format!("LISTEN_FDS is {wrong};"), "1, the"]);
    }
}

#[test]
fn what_nobody_can_connect_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (connected, _peer) = UnixStream::pair().unwrap();
    let datagram = UnixDatagram::bind(folder.join("datagram")).unwrap();
    let network = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = File::create(folder.join("file")).unwrap();
    let first: [OwnedFd; 4] = [
        connected.into(),
        datagram.into(),
        network.into(),
        file.into(),
    ];
    for socket in first {
        let command = activated(folder, HAND_OVER, vec![socket], &[]);
        fails(command, &["descriptor 3", "vhost-user", "ListenStream="]);
    }
    let file = File::create(folder.join("file")).unwrap();
    let sockets = vec![listen(folder, "socket"), file.into()];
    let command = activated(folder, HAND_OVER, sockets, &[]);
    fails(command, &["descriptor 4", "command socket"]);
}

#[test]
fn one_command_socket_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let sockets = vec![listen(folder, "socket"), listen(folder, "commands")];
    let options = ["--command-socket", "more"];
    let command = activated(folder, HAND_OVER, sockets, &options);
    fails(command, &["more", "--command-socket", "second socket"]);
    assert!(!folder.join("more").exists());
}

#[test]
fn the_command_socket_may_be_named_in_the_environment() {
    let by_environment = ["env", "VHOST_USER_COMMAND_SOCKET=named"];
    let device = Device::start_by(&by_environment, &[]);
    assert!(status(&device.path("named")).contains("driver  none"));
    // The option goes before it, and a user who has it set can still ask.
    let device = Device::start_by(&by_environment, &["--command-socket", "told"]);
    assert!(status(&device.path("told")).contains("driver  none"));
    assert!(!device.path("named").exists());
    let mut ask = program();
    ask.env("VHOST_USER_COMMAND_SOCKET", "named");
    let asked = ask.arg("tell").arg(device.path("told")).arg("status");
    assert!(asked.output().unwrap().status.success());
}

#[test]
fn the_journal_gets_priorities_and_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let log = folder.join("log");
    let start = |journal: bool| {
        let sockets = vec![listen(folder, "socket")];
        let file = File::create(&log).unwrap();
        let found = file.metadata().unwrap();
        let inode = found.st_ino() + u64::from(!journal);
        let mut command = activated(folder, HAND_OVER, sockets, &["-v"]);
        command
            .env("JOURNAL_STREAM", format!("{}:{inode}", found.st_dev()))
            .stderr(file);
        let child = command.spawn().unwrap();
        let socket = UnixStream::connect(folder.join("socket")).unwrap();
        let mut card = Card::unattached([256; 4], EVENT_IDX);
        card.reattach(socket);
        card.expect_service();
        drop(card);
        end(child);
        fs::remove_file(folder.join("socket")).unwrap();
        fs::read_to_string(&log).unwrap()
    };
    let journal = start(true);
    assert!(journal.contains("<6>stream 0: started\n"), "{journal}");
    let prefixed = |line: &str| line.starts_with("<4>") || line.starts_with("<6>");
    assert!(journal.lines().all(prefixed), "{journal}");
    // A terminal or a file has no use for that.
    let plain = start(false);
    assert!(plain.contains(" INFO  vhost_user_sound"), "{plain}");
    assert!(!plain.lines().any(prefixed), "{plain}");
    // What ends the program is an error there too.
    let mut command = activated(folder, HAND_OVER, Vec::new(), &[]);
    let file = File::create(&log).unwrap();
    let found = file.metadata().unwrap();
    let stream = format!("{}:{}", found.st_dev(), found.st_ino());
    command.env("JOURNAL_STREAM", stream).stderr(file);
    wait_for_end(&mut command.spawn().unwrap());
    let error = fs::read_to_string(&log).unwrap();
    assert!(error.starts_with("<3>--socket-activation: "), "{error}");
}
