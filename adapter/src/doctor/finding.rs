// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What was found out, and how it is told.

use crossterm::style::Stylize;
use serde::Serialize;

/// Whether something is as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It does not matter here.
    NotApplicable,
    /// It is.
    Ok,
    /// Cards work, but not as well as they could.
    Warn,
    /// Cards do not work before it is mended.
    Wrong,
}

impl Verdict {
    /// As a word of a report.
    pub fn word(self) -> &'static str {
        match self {
            Self::NotApplicable => "n.a.",
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Wrong => "wrong",
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// The card that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// Whether all is well.
    pub verdict: Verdict,
    /// What was found, for people.
    pub text: String,
    /// The command that mends it, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
    /// Whether that is a matter for root.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub as_root: bool,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self {
            check,
            card: None,
            verdict,
            text: text.into(),
            mend: None,
            as_root: false,
        }
    }

    pub(super) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, text)
    }

    pub(super) fn warn(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warn, text)
    }

    pub(super) fn wrong(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::Wrong, text)
    }

    pub(super) fn not_applicable(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(check, Verdict::NotApplicable, text)
    }

    /// With a command for root.
    pub(super) fn mended_by(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self.as_root = true;
        self
    }

    /// With a command for the user.
    pub(super) fn mended_by_user(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }

    /// The command as the user can type it.
    fn command(&self, is_root: bool) -> Option<String> {
        let command = self.mend.as_deref()?;
        let of_shell = command.contains(['|', '>', '&', ';']);
        Some(match (self.as_root && !is_root, of_shell) {
            (false, _) => command.to_owned(),
            (true, false) => format!("sudo {command}"),
            (true, true) => format!("sudo sh -c '{command}'"),
        })
    }
}

/// The worst of all.
pub fn worst(findings: &[Finding]) -> Verdict {
    let verdicts = findings.iter().map(|finding| finding.verdict);
    verdicts.max().unwrap_or(Verdict::Ok)
}

/// The report for people: a line for each check, and below it what mends it.
pub fn report(findings: &[Finding], is_root: bool, colours: bool) -> String {
    let label = |finding: &Finding| match &finding.card {
        Some(card) => format!("{card}: {}", finding.check),
        None => finding.check.to_owned(),
    };
    let widths = findings
        .iter()
        .map(|finding| label(finding).chars().count());
    let width = widths.max().unwrap_or_default();
    let mut lines = Vec::new();
    for finding in findings {
        let verdict = painted(finding.verdict, colours);
        let label = label(finding);
        lines.push(format!("{verdict}  {label:width$}  {}", finding.text));
        if let Some(command) = finding.command(is_root) {
            lines.push(format!("{:7}{:width$}  mend: {command}", "", ""));
        }
    }
    lines.push(String::new());
    lines.push(summary(findings));
    lines.join("\n")
}

fn summary(findings: &[Finding]) -> String {
    let count = |verdict| {
        findings
            .iter()
            .filter(|finding| finding.verdict == verdict)
            .count()
    };
    let (ok, warn, wrong) = (
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Wrong),
    );
    let advice = match worst(findings) {
        Verdict::Wrong => "; start with the first that is wrong, then run this again",
        _ => "",
    };
    format!("{ok} ok, {warn} to look at, {wrong} wrong{advice}")
}

/// The verdict in a column of its own, with its colour.
fn painted(verdict: Verdict, colours: bool) -> String {
    let word = format!("{:5}", verdict.word());
    if !colours {
        return word;
    }
    match verdict {
        Verdict::NotApplicable => word.dim(),
        Verdict::Ok => word.green(),
        Verdict::Warn => word.yellow(),
        Verdict::Wrong => word.red().bold(),
    }
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        let mut card = Finding::warn("adapter", "nobody is attached").mended_by_user("run x");
        card.card = Some("music".into());
        vec![
            Finding::ok("module", "virtio_loopback is loaded"),
            Finding::not_applicable("dma", "no matter"),
            card,
            Finding::wrong("udev", "no rule").mended_by("install a b && udevadm trigger"),
            Finding::wrong("group", "not a member").mended_by("usermod -aG g ann"),
        ]
    }

    #[test]
    fn a_report_has_a_line_for_each_and_a_command_for_what_is_not_well() {
        let expected = "\
ok     module          virtio_loopback is loaded
n.a.   dma             no matter
warn   music: adapter  nobody is attached
                       mend: run x
wrong  udev            no rule
                       mend: sudo sh -c 'install a b && udevadm trigger'
wrong  group           not a member
                       mend: sudo usermod -aG g ann

1 ok, 1 to look at, 2 wrong; start with the first that is wrong, then run this again";
        assert_eq!(report(&findings(), false, false), expected);
    }

    #[test]
    fn root_needs_no_sudo_and_colours_are_for_terminals() {
        let text = report(&findings(), true, true);
        assert!(text.contains("mend: usermod -aG g ann"), "{text}");
        assert!(text.contains("\x1b[38;5;9m"), "{text:?}");
        assert!(!report(&findings(), true, false).contains('\x1b'));
    }

    #[test]
    fn the_worst_counts() {
        assert_eq!(worst(&[]), Verdict::Ok);
        assert_eq!(worst(&findings()), Verdict::Wrong);
        assert_eq!(worst(&findings()[..3]), Verdict::Warn);
    }

    #[test]
    fn json_leaves_out_what_is_not_there() {
        let json = serde_json::to_value(findings()).unwrap();
        let ok = serde_json::json!({
            "check": "module", "verdict": "ok", "text": "virtio_loopback is loaded"
        });
        assert_eq!(json[0], ok);
        assert_eq!(
            (&json[2]["card"], &json[1]["verdict"]),
            (&"music".into(), &"not-applicable".into())
        );
        assert_eq!(
            (&json[4]["mend"], &json[4]["as_root"]),
            (&"usermod -aG g ann".into(), &true.into())
        );
    }
}
