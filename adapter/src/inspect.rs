// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `virtio-loopback list` and `virtio-loopback status`: what is there, and how it is.

mod meter;
mod overview;
mod report;
mod stream;
mod tables;

use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use crate::device_answer::DeviceAnswer;
use crate::driver::sysfs::{CLASS, DRIVERS};
use crate::driver::{ControlFile, DeviceName, DriverError};

pub use overview::{Look, overview};
pub use report::Report;
pub use stream::{Stream, printable, printable_json};
pub use tables::{list_table, notes, status_table};

/// All devices, without a word from their device processes.
///
/// # Errors
/// Of opening the control file, and [`DriverError::List`].
pub fn list() -> Result<Vec<Report>, DriverError> {
    let devices = ControlFile::open()?.list()?;
    Ok(devices
        .into_iter()
        .map(|device| Report::new(device, Path::new(CLASS), Path::new(DRIVERS)))
        .collect())
}

/// All devices, or the one of this name, and what their device processes say.
///
/// # Errors
/// As [`list`], and [`DriverError::NoDevice`].
pub fn status(name: Option<&DeviceName>) -> Result<Vec<Report>, DriverError> {
    let mut reports = list()?;
    if let Some(name) = name {
        reports.retain(|report| report.name == name.as_str());
        if reports.is_empty() {
            return Err(DriverError::NoDevice(name.to_string()));
        }
    }
    ask_all(&mut reports);
    Ok(reports)
}

/// Asks all device processes at the same time: one that hangs keeps nobody waiting for others, unless
/// there is no thread to be had.
fn ask_all(reports: &mut [Report]) {
    let ask = |name: &str| DeviceAnswer::ask(Path::new("/"), name);
    let start = |report: &Report| {
        let name = report.name.clone();
        thread::Builder::new().spawn(move || ask(&name))
    };
    let threads: Vec<_> = reports.iter().map(start).collect();
    for (report, thread) in reports.iter_mut().zip(threads) {
        report.device_process = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => ask(&report.name),
        };
    }
}
