// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The device process: started in a folder of its own, and looked after at the end.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::driver::LIMIT;

/// A command line of the device program that does not read this process's environment.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vhost-user-sound"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command.env_remove("VHOST_USER_COMMAND_SOCKET");
    command
}

/// Waits for a process to end, within the limit.
pub fn wait_for_end(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            panic!("the device process does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A line of the status of every thread of a process.
pub fn of_threads(process: Pid, name: &str) -> Vec<u64> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let base = if name.starts_with("Cap") { 16 } else { 10 };
    let read = |thread: std::io::Result<fs::DirEntry>| {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let mut fields = status.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = fields.find(|(found, _)| *found == name).unwrap();
        u64::from_str_radix(value.trim(), base).unwrap()
    };
    threads.map(read).collect()
}

/// A device process. Dropping it shows that it has lived to the end and ends in order.
pub struct Device {
    child: Child,
    folder: TempDir,
    ended: bool,
}

impl Device {
    /// Starts a device process in a new folder with these arguments and `--socket-path socket`.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    /// The same by another program that ends in executing the device.
    pub fn start_by(wrapper: &[&str], arguments: &[&str]) -> Self {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(program().get_program());
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        Self::spawn(command, tempfile::tempdir().unwrap(), arguments)
    }

    /// The same with a log that nobody reads. See [`Device::fill_log`].
    pub fn start_unread(arguments: &[&str]) -> Self {
        let unread = "mkfifo unread; exec \"$0\" \"$@\" 2<>unread";
        Self::start_by(&["sh", "-c", unread], arguments)
    }

    /// From now on, who writes a line into the log that nobody reads waits.
    pub fn fill_log(&self) {
        let mut options = OpenOptions::new();
        let options = options.write(true).custom_flags(O_NONBLOCK);
        let mut log = options.open(self.path("unread")).unwrap();
        for length in [4096, 1] {
            while log.write(&vec![0; length]).is_ok() {}
        }
    }

    /// The same in a folder that holds files already.
    pub fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        Self::spawn(program(), folder, arguments)
    }

    fn spawn(mut command: Command, folder: TempDir, arguments: &[&str]) -> Self {
        let log = File::create(folder.path().join("log")).unwrap();
        let child = command
            .current_dir(folder.path())
            .args(["--socket-path", "socket"])
            .args(arguments)
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            child,
            folder,
            ended: false,
        }
    }

    /// A device that plays nothing and captures silence, at the pace of a clock.
    pub fn null() -> Self {
        Self::start(&["--host", "null"])
    }

    /// A device that plays into `out.wav`.
    pub fn player() -> Self {
        Self::start(&["--host", "file", "--playback-file", "out.wav"])
    }

    /// A file in the device's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the device has logged, but for what the kernel under the test lacks.
    pub fn log(&self) -> String {
        let log = self.whole_log();
        let lines = log.lines().filter(|line| !line.contains(" sandbox: "));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// What the device has logged.
    pub fn whole_log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Entries of a folder of the process in /proc, such as its open files.
    pub fn count_in_proc(&self, folder: &str) -> usize {
        let path = format!("/proc/{}/{folder}", self.child.id());
        fs::read_dir(path).unwrap().count()
    }

    /// CPU time that the process has used, in ticks of the kernel.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The second field is a name in brackets, which may hold spaces; utime and stime are
        // fields 14 and 15.
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        let times = fields.skip(11).take(2);
        times.map(|field| field.parse::<u64>().unwrap()).sum()
    }

    /// Connects, as soon as the device listens.
    pub fn connect(&self) -> UnixStream {
        let end = Instant::now() + LIMIT;
        loop {
            match UnixStream::connect(self.path("socket")) {
                Ok(socket) => return socket,
                Err(error) => {
                    let early = matches!(
                        error.kind(),
                        ErrorKind::NotFound | ErrorKind::ConnectionRefused
                    );
                    let waiting = early && Instant::now() < end;
                    assert!(waiting, "cannot connect: {error}; log: {}", self.log());
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal and waits for the end.
    pub fn end_by(&mut self, signal: Signal) -> ExitStatus {
        let early = self.child.try_wait().unwrap();
        assert_eq!(
            early,
            None,
            "the device has ended by itself: {}",
            self.log()
        );
        self.ended = true;
        kill(self.pid(), signal).unwrap();
        wait_for_end(&mut self.child)
    }

    fn check_end(&mut self) {
        let status = self.end_by(Signal::SIGTERM);
        assert!(status.success(), "{status}; log: {}", self.log());
        // A thread that panics does not end the process.
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(!self.path("socket").exists(), "the socket is left behind");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            eprintln!("log of the device: {}", self.log());
        } else if !self.ended {
            self.check_end();
        }
    }
}
