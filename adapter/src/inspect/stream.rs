// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a device process says about one of its streams, as far as it says it.

use serde_json::Value;

/// Most streams of one device that are shown.
const MOST: usize = 64;
/// Longest text of a device process that is shown, in characters.
const LONGEST: usize = 48;

/// One stream. Everything may be missing: the answer is the device process's affair.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stream {
    /// What people call it, or its direction and number.
    pub name: String,
    /// What is behind it.
    pub host: Option<String>,
    /// Where it is in its life.
    pub state: Option<String>,
    /// What is played on it, for a sound server's rules.
    pub role: Option<String>,
    /// Loudest sample of any channel since the last question, in dB of full scale: `Some(None)` is
    /// silence.
    pub peak: Option<Option<f64>>,
    /// Frames a second.
    pub rate: Option<u64>,
    /// Frames of a period.
    pub period: Option<u64>,
    /// Frames between an application's write and the host.
    pub delay: Option<u64>,
    /// Holes in the sound.
    pub gaps: Option<u64>,
    /// The host is busy, or not there: silence has its place.
    pub away: bool,
}

impl Stream {
    /// The streams in an answer.
    pub fn all(answer: &Value) -> Vec<Self> {
        let streams = answer.get("streams").and_then(Value::as_array);
        let streams = streams.map(Vec::as_slice).unwrap_or_default();
        streams.iter().take(MOST).map(Self::of).collect()
    }

    fn of(value: &Value) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(printable);
        let number = |name: &str| value.get(name).and_then(Value::as_u64);
        let parameter = |name: &str| value.get("parameters")?.get(name)?.as_u64();
        Self {
            name: text("name").unwrap_or_else(|| direction(value)),
            host: text("host"),
            state: text("state"),
            role: text("role"),
            peak: value
                .get("peak")
                .and_then(Value::as_array)
                .map(|channels| loudest(channels)),
            rate: parameter("rate").filter(|rate| *rate > 0),
            period: parameter("period_frames"),
            delay: number("delay_frames"),
            gaps: number("gaps"),
            away: value.get("away").and_then(Value::as_bool) == Some(true),
        }
    }

    /// Whether sound runs.
    pub fn is_running(&self) -> bool {
        self.state.as_deref() == Some("running")
    }

    /// `frames` as time, if the rate is known.
    pub fn milliseconds(&self, frames: Option<u64>) -> Option<f64> {
        Some(frames? as f64 * 1000.0 / self.rate? as f64)
    }
}

/// "playback", and the number of the PCM device where it is not the first.
fn direction(value: &Value) -> String {
    let direction = value.get("direction").and_then(Value::as_str);
    let direction = printable(direction.unwrap_or("stream"));
    match value.get("device").and_then(Value::as_u64) {
        Some(device) if device > 0 => format!("{direction} {device}"),
        _ => direction,
    }
}

/// Of channels; one that is silent, or is no number, counts as silence.
fn loudest(channels: &[Value]) -> Option<f64> {
    let peaks = channels.iter().filter_map(Value::as_f64);
    peaks.reduce(f64::max)
}

/// Text that cannot do anything to a terminal or a table.
pub fn printable(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(LONGEST)
        .collect();
    if text.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}

/// JSON with the control characters in its texts as escapes: serde_json leaves those above the space
/// as they are.
pub fn printable_json(json: &str) -> String {
    json.chars()
        .map(|c| match c {
            '\u{7f}'..='\u{9f}' => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_holds_nothing_that_a_terminal_would_obey() {
        let nasty: String = ('\0'..='\u{a0}').collect();
        let text = printable_json(&json!({ "role": nasty }).to_string());
        assert!(!text.contains(char::is_control), "{text:?}");
        let back: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["role"], nasty);
    }

    #[test]
    fn a_stream_is_what_is_said_of_it() {
        let answer = json!({"streams": [{
            "id": 0, "direction": "playback", "device": 0, "host": "alsa hw:0,0", "state": "running",
            "role": "Music", "peak": [-12.5, null], "delay_frames": 480, "gaps": 2, "new": {},
            "parameters": {"rate": 48000, "period_frames": 480, "format": "S16"},
        }]});
        let [stream] = &Stream::all(&answer)[..] else {
            panic!("one stream")
        };
        assert_eq!(stream.name, "playback");
        assert_eq!(stream.role.as_deref(), Some("Music"));
        assert_eq!(stream.peak, Some(Some(-12.5)));
        assert_eq!(stream.milliseconds(stream.delay), Some(10.0));
        assert_eq!((stream.gaps, stream.is_running()), (Some(2), true));
    }

    #[test]
    fn what_is_missing_or_wrong_is_not_there() {
        let empty = Stream {
            name: "stream".into(),
            ..Stream::default()
        };
        for odd in [
            json!({}),
            json!(7),
            json!({"state": 1, "peak": "loud", "parameters": [], "gaps": -1, "role": null}),
            json!({"parameters": {"rate": 0}, "delay_frames": 1.5}),
        ] {
            let streams = Stream::all(&json!({"streams": [odd]}));
            assert_eq!(streams, std::slice::from_ref(&empty), "{odd}");
        }
        assert_eq!(empty.milliseconds(Some(480)), None);
        for none in [json!({}), json!({"streams": {}}), json!({"streams": []})] {
            assert_eq!(Stream::all(&none), []);
        }
        let many = json!({"streams": vec![json!({}); 1000]});
        assert_eq!(Stream::all(&many).len(), MOST);
    }

    #[test]
    fn silence_is_a_peak_and_no_peaks_are_silence() {
        let peak = |peak: Value| Stream::of(&json!({"peak": peak})).peak;
        assert_eq!(peak(json!([null, null])), Some(None));
        assert_eq!(peak(json!([null, -3.0, -6])), Some(Some(-3.0)));
        assert_eq!(peak(json!(["x"])), Some(None));
        assert_eq!(peak(json!(null)), None);
    }

    #[test]
    fn streams_are_told_apart() {
        let name = |value: Value| Stream::of(&value).name;
        assert_eq!(
            name(json!({"direction": "capture", "device": 2})),
            "capture 2"
        );
        assert_eq!(
            name(json!({"direction": "capture", "name": "line"})),
            "line"
        );
    }

    #[test]
    fn a_text_cannot_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{9b}"), "a[2Jbc");
        assert_eq!(printable(&"x".repeat(100)).chars().count(), LONGEST + 1);
    }
}
