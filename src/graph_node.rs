// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a stream shows itself in the graph of a sound server: pure data.

use std::fmt;

use clap::ValueEnum;
use serde::Deserialize;

use crate::role::Role;

/// A stream's node in the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphNode {
    /// What its sound is for; `None` leaves that to the server's policy.
    pub role: Option<Role>,
    /// Its `node.name`; `None` for the usual one.
    pub name: Option<String>,
    /// The longest cycle of the graph that it wants; `None` for the driver's period.
    pub latency: Option<Latency>,
    /// More properties, as they are handed to the server.
    pub properties: Vec<(String, String)>,
    /// The node to be linked with, past the policy.
    pub target: Option<String>,
    /// What happens while the server lets it wait.
    pub on_cork: OnCork,
}

impl fmt::Display for GraphNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("pipewire")?;
        match self.role {
            Some(role) => write!(f, ", role {}", role.name)?,
            None => f.write_str(", no role")?,
        }
        if let Some(name) = &self.name {
            write!(f, ", node {name}")?;
        }
        if let Some(latency) = self.latency {
            write!(f, ", latency {latency}")?;
        }
        if let Some(target) = &self.target {
            write!(f, ", target {target}")?;
        }
        if self.on_cork == OnCork::Hold {
            f.write_str(", holds when corked")?;
        }
        Ok(())
    }
}

/// What happens to a stream while the server lets it wait for one of a higher role, or has nothing to
/// link it with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnCork {
    /// Time passes: sound is consumed unheard, and what is played later comes in time.
    #[default]
    Drain,
    /// The application waits, and goes on where it stopped. One that writes to hw: without poll is
    /// told of an I/O error by Linux from 6.6 on, after 100 ms or its buffer.
    Hold,
}

/// A length of time in frames of a rate, as PipeWire's `node.latency`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Frames.
    pub frames: u32,
    /// Frames a second.
    pub rate: u32,
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.frames, self.rate)
    }
}

/// A latency as FRAMES/RATE, such as `256/48000`, up to a second.
///
/// # Errors
/// Says what is allowed.
pub fn parse_latency(text: &str) -> Result<Latency, String> {
    let parts = text.split_once('/');
    let numbers = parts.map(|(frames, rate)| (frames.parse(), rate.parse()));
    match numbers {
        Some((Ok(frames), Ok(rate))) if (1..=rate).contains(&frames) && rate <= 768_000 => {
            Ok(Latency { frames, rate })
        }
        _ => Err("frames of a rate, such as 256/48000, of a second at most".to_owned()),
    }
}

/// A node's name, its target, or the name of a property: one line, and not empty.
///
/// # Errors
/// Says what is allowed.
pub fn parse_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("one line of text, and not empty".to_owned());
    }
    Ok(text.to_owned())
}

/// Properties that have an option and a key of their own, which look at what they are given.
const OWNED: [(&str, &str); 5] = [
    ("media.role", "role"),
    ("node.name", "node-name"),
    ("node.latency", "latency"),
    ("target.object", "target"),
    ("node.target", "target"),
];

/// A property of a node, from its name and its value.
///
/// # Errors
/// Says what is allowed.
pub fn check_property(key: &str, value: &str) -> Result<(String, String), String> {
    let key = parse_name(key).map_err(|what| format!("the property's name: {what}"))?;
    if let Some((_, option)) = OWNED.iter().find(|(owned, _)| *owned == key) {
        return Err(format!("{key} is set by `{option}`, which checks it"));
    }
    let value = parse_name(value).map_err(|what| format!("the value of {key}: {what}"))?;
    Ok((key, value))
}

/// A property of a node, as KEY=VALUE.
///
/// # Errors
/// Says what is allowed.
pub fn parse_property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or("a property as KEY=VALUE, such as session.suspend-timeout-seconds=0")?;
    check_property(key, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_frames_of_a_rate() {
        let latency = parse_latency("256/48000").unwrap();
        assert_eq!((latency.frames, latency.rate), (256, 48_000));
        assert_eq!(latency.to_string(), "256/48000");
        for wrong in [
            "",
            "256",
            "0/48000",
            "5 ms",
            "-1/48000",
            "96000/48000",
            "1/0",
            "1/9999999",
        ] {
            assert!(parse_latency(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_property_does_not_go_past_the_checks_of_an_option() {
        let property = parse_property("session.suspend-timeout-seconds=0").unwrap();
        assert_eq!(property.0, "session.suspend-timeout-seconds");
        assert_eq!(parse_property("a=b=c").unwrap().1, "b=c");
        for (key, option) in OWNED {
            let error = parse_property(&format!("{key}=x")).unwrap_err();
            assert!(error.contains(&format!("`{option}`")), "{error}");
        }
        for wrong in ["", "a", "=b", "a=", "a=b\nc", "a\0=b"] {
            assert!(parse_property(wrong).is_err(), "{wrong:?}");
        }
    }
}
