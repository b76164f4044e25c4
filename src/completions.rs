// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `vhost-user-sound completions`: scripts with which shells complete the command line.

use std::io::{self, Write};

use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate};

use crate::args::Args;

/// Prints the script for a shell.
///
/// # Errors
/// Of standard output.
pub fn print(shell: Shell) -> io::Result<()> {
    io::stdout().write_all(completions(shell).as_bytes())
}

fn completions(shell: Shell) -> String {
    let mut command = Args::command();
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

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn a_script_has_what_a_user_may_say() {
        for (shell, syntax) in [
            (Shell::Bash, " vhost-user-sound\n"),
            (Shell::Zsh, "#compdef vhost-user-sound"),
            (Shell::Fish, "complete -c vhost-user-sound"),
        ] {
            let script = completions(shell);
            for word in [syntax, "tell", "jack", "command-socket"] {
                assert!(script.contains(word), "{shell}: no {word}");
            }
        }
    }

    #[test]
    fn bash_completes_words() {
        let completed = |words: &[&str]| {
            let (last, word) = (words.len() - 1, words[words.len() - 1]);
            let script = format!(
                "{}\nCOMP_WORDS=({}); COMP_CWORD={last}; function=$(complete -p vhost-user-sound | \
                 sed 's/.*-F \\([^ ]*\\).*/\\1/'); $function vhost-user-sound {word} {}; \
                 echo \"${{COMPREPLY[@]}}\"",
                completions(Shell::Bash),
                words.join(" "),
                words[last - 1],
            );
            let mut bash = process::Command::new("bash");
            let output = bash.args(["-c", &script]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let program = "vhost-user-sound";
        assert_eq!(completed(&[program, "--playback-d"]), "--playback-device\n");
        let tell = [program, "tell", "/run/x", "jack", "headphone", "unpl"];
        assert_eq!(completed(&tell), "unplugged\n");
    }
}
