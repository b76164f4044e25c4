// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `virtio-loopback completions`: scripts with which shells complete the command line.

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};

use crate::args::Cli;

/// The script for a shell.
pub fn completions(shell: Shell) -> String {
    let mut command = visible(&Cli::command());
    let name = command.get_name().to_owned();
    if shell != Shell::Bash {
        return script(shell, &mut command, &name);
    }
    // clap_complete writes a name with a hyphen in two ways, and bash then finds no subcommand
    // (clap-rs/clap#6421): it gets one without, and the hyphen comes back afterwards.
    let plain = name.replace('-', "_");
    script(shell, &mut command, &plain).replace(&plain, &name)
}

fn script(shell: Shell, command: &mut Command, name: &str) -> String {
    let mut script = Vec::new();
    generate(shell, command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The command without what is hidden; scripts would show that.
fn visible(command: &Command) -> Command {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    Command::new(env!("CARGO_PKG_NAME"))
        .version(env!("CARGO_PKG_VERSION"))
        .subcommands(shown.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_has_what_a_user_may_say() {
        for (shell, syntax) in [
            (Shell::Bash, " virtio-loopback\n"),
            (Shell::Zsh, "#compdef virtio-loopback"),
            (Shell::Fish, "complete -c virtio-loopback"),
        ] {
            let script = completions(shell);
            for word in [syntax, "status", "watch", "ephemeral", "version"] {
                assert!(script.contains(word), "{shell}: no {word}");
            }
            let hidden = crate::device_process::SUBCOMMAND;
            assert!(!script.contains(hidden), "{shell}: {hidden}");
        }
    }
}
