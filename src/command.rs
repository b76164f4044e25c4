// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands to a running device: what people and programs say on its command socket, and what they
//! hear. Each command and each reply is one line with one JSON object.

pub mod client;
pub mod server;

use serde::{Deserialize, Serialize};

/// A command, such as `{"command": "jack", "jack": "headphone", "plugged": false}`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Plug something into a jack, or pull it out.
    Jack {
        /// Number or kind of the jack.
        jack: String,
        /// Whether something is plugged in from now on.
        plugged: bool,
    },
    /// List the jacks.
    Jacks {},
    /// Tell how the card is.
    Status {},
}

/// The answer to a command.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// It was not carried out.
    Refused {
        /// Why not, and what to do.
        error: String,
    },
    /// How the card is.
    Status {
        /// Process id of the device.
        process: u32,
        /// Whether a driver is there.
        driver: bool,
        /// The streams, in the order of their virtio ids.
        streams: Vec<StreamReply>,
        /// The jacks, in the order of their virtio ids.
        jacks: Vec<JackReply>,
    },
    /// The jacks, or the one that was changed.
    Jacks {
        /// In the order of their virtio ids.
        jacks: Vec<JackReply>,
    },
}

/// A jack in a reply.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JackReply {
    /// virtio jack id.
    pub id: usize,
    /// Its kind, as in a card file.
    pub kind: String,
    /// Whether something is plugged in.
    pub plugged: bool,
    /// The real card's control element that it follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
}

/// A stream in a reply.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamReply {
    /// virtio stream id.
    pub id: usize,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `playback` or `capture`.
    pub direction: String,
    /// Number of the ALSA PCM device.
    pub device: u32,
    /// What is behind it.
    pub host: String,
    /// The host is busy or not there: silence has its place until it is back.
    pub away: bool,
    /// What its sound is for, where a sound server is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Where it is in its life: `idle`, `set-up`, `prepared`, `running`, `stopped`, `released`.
    pub state: String,
    /// The parameters that the driver has chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
    /// Frames that were played or captured since PREPARE.
    pub frames: u64,
    /// How often the sound had a hole since then.
    pub gaps: u64,
    /// Frames that were not heard, or not captured, there.
    pub lost: u64,
    /// The highest peak of each channel since the last question, in decibels of full scale; `None` for
    /// silence, and for samples that are no numbers.
    pub peak: Vec<Option<f64>>,
    /// Frames between the driver's newest sample and the loudspeaker, or between the microphone and
    /// the driver; 0 while the stream does not run.
    pub delay_frames: u64,
}

/// The parameters of a stream in a reply.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// Sample format, by its ALSA name.
    pub format: String,
    /// Frames per second.
    pub rate: u32,
    /// Samples per frame.
    pub channels: u8,
    /// Bytes of one period.
    pub period_bytes: u32,
    /// Bytes of the driver's buffer.
    pub buffer_bytes: u32,
    /// Frames of one period.
    pub period_frames: u64,
    /// Frames of the driver's buffer.
    pub buffer_frames: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_what_the_manual_says() {
        let known = [
            (
                r#"{"command": "jack", "jack": "headphone", "plugged": false}"#,
                Command::Jack {
                    jack: "headphone".to_owned(),
                    plugged: false,
                },
            ),
            (r#"{"command": "jacks"}"#, Command::Jacks {}),
            (r#"{"command": "status"}"#, Command::Status {}),
        ];
        for (line, command) in known {
            let read: Command = serde_json::from_str(line).unwrap();
            assert_eq!(read, command);
        }
        let wrong = [
            r#"{"command": "jack", "jack": "headphone"}"#,
            r#"{"command": "jack", "jack": 1, "plugged": true}"#,
            r#"{"command": "jacks", "all": true}"#,
            r#"{"command": "shutdown"}"#,
            "{}",
            "[]",
        ];
        for line in wrong {
            assert!(serde_json::from_str::<Command>(line).is_err(), "{line}");
        }
    }

    #[test]
    fn replies_are_told_apart() {
        let jacks = || {
            vec![JackReply {
                id: 0,
                kind: "headphone".to_owned(),
                plugged: true,
                follows: None,
            }]
        };
        let replies = [
            Reply::Refused {
                error: "no".to_owned(),
            },
            Reply::Jacks { jacks: jacks() },
            Reply::Status {
                process: 77,
                driver: false,
                streams: Vec::new(),
                jacks: jacks(),
            },
        ];
        for reply in replies {
            let line = serde_json::to_string(&reply).unwrap();
            assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply);
        }
    }
}
