// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The `[process]` table.

use super::Fault;
use super::streams::number;
use super::tables::ProcessTable;
use crate::cpus::parse_cpus;
use crate::process::Process;

/// What the table says. `place` names a byte of the file for people.
pub fn check(table: &ProcessTable, place: impl Fn(usize) -> String) -> Result<Process, Fault> {
    let cpus = table.cpus.as_ref().map(|list| {
        let cpus = parse_cpus(list.get_ref());
        let cpus =
            cpus.map_err(|what| Fault::new(list.span(), format!("{}: {what}", list.get_ref())))?;
        let said_by = format!("{}: cpus", place(list.span().start));
        Ok((cpus, said_by))
    });
    let priority = table.rt_priority.as_ref().map(|priority| {
        let priority = number(Some(priority), 0, 0..=99, "a real-time priority")?;
        // The range above is within it.
        Ok(u8::try_from(priority).unwrap_or_default())
    });
    Ok(Process {
        cpus: cpus.transpose()?,
        priority: priority.transpose()?,
    })
}
