// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Names of loopback devices.

use std::fmt;
use std::str::FromStr;

use super::uapi;

/// Longest id of an ALSA card, in bytes; a longer name is cut there (`struct snd_card`).
pub const ALSA_ID_MAX: usize = 15;

/// A name that the kernel accepts: 1 to 31 of `[A-Za-z0-9_-]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName(String);

/// Why a text is not a name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("a device name cannot be empty")]
    Empty,
    /// Does not fit the ABI.
    #[error("a device name has at most {max} characters, this one has {0}", max = uapi::NAME_SIZE - 1)]
    TooLong(usize),
    /// A character outside the set.
    #[error("a device name is made of A-Z a-z 0-9 _ and -, not {0:?}")]
    Character(char),
}

impl DeviceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The NUL-terminated form of the ABI.
    pub(super) fn to_uapi(&self) -> uapi::Name {
        let mut name = uapi::Name::default();
        for (to, from) in name.name.iter_mut().zip(self.0.bytes()) {
            *to = from;
        }
        name
    }

    /// The ALSA card id that a sound device of this name gets, if it is not the whole name.
    pub fn shortened_alsa_id(&self) -> Option<&str> {
        self.0
            .get(..ALSA_ID_MAX)
            .filter(|id| id.len() < self.0.len())
    }
}

impl FromStr for DeviceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(c) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character(c));
        }
        if text.len() >= uapi::NAME_SIZE {
            return Err(NameError::TooLong(text.len()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_accepts_are_accepted() {
        for name in ["music", "a", "Zone_2-left", &"x".repeat(31)] {
            assert_eq!(name.parse::<DeviceName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn other_names_say_what_is_wrong() {
        assert_eq!("".parse::<DeviceName>(), Err(NameError::Empty));
        assert_eq!("a b".parse::<DeviceName>(), Err(NameError::Character(' ')));
        assert_eq!("../x".parse::<DeviceName>(), Err(NameError::Character('.')));
        assert_eq!(
            "küche".parse::<DeviceName>(),
            Err(NameError::Character('ü'))
        );
        assert_eq!(
            "x".repeat(32).parse::<DeviceName>(),
            Err(NameError::TooLong(32))
        );
    }

    #[test]
    fn the_abi_form_ends_with_nul() {
        let name = "x".repeat(31).parse::<DeviceName>().unwrap().to_uapi();
        assert_eq!(&name.name[..31], "x".repeat(31).as_bytes());
        assert_eq!(name.name[31], 0);
    }

    #[test]
    fn only_long_names_are_shortened_for_alsa() {
        let id = |name: &str| {
            name.parse::<DeviceName>()
                .unwrap()
                .shortened_alsa_id()
                .map(str::to_owned)
        };
        assert_eq!(id("fifteen-letters"), None);
        assert_eq!(id("sixteen--letters"), Some("sixteen--letter".into()));
    }
}
