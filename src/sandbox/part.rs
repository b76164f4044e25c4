// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The parts of the sandbox, as users name them.

use std::fmt;

use clap::ValueEnum;

/// What can be left out of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// All of it.
    All,
    /// Keep the capabilities that the process was started with.
    Capabilities,
    /// Open any file that its user may open, and speak TCP.
    Landlock,
    /// Make any system call.
    Seccomp,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "no-new-privileges",
            Self::Capabilities => "capabilities",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        })
    }
}
