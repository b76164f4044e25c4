// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a stream is for, as sound policies know it: one table. Imports nothing from this crate.
//!
//! A policy decides by `media.role` alone who plays, is ducked or waits. A role that it does not
//! know is led past it without a word, so no other is let through here.

/// A role that PipeWire or one of its policies has a name for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Value of `media.role`; policies compare it letter by letter.
    pub name: &'static str,
    /// Its priority in Automotive Grade Linux's policy, where a higher one ducks (Navigation) or
    /// corks (all others) a lower one; `None` where that policy does not know it.
    pub agl_priority: Option<u8>,
}

const fn agl(name: &'static str, priority: u8) -> Role {
    Role {
        name,
        agl_priority: Some(priority),
    }
}

const fn other(name: &'static str) -> Role {
    Role {
        name,
        agl_priority: None,
    }
}

/// Every role: first those of Automotive Grade Linux's policy and their aliases, lowest priority first,
/// then what PipeWire's documentation and WirePlumber's example of a policy name beyond.
pub const ROLES: [Role; 25] = [
    agl("Multimedia", 25),
    agl("Music", 25),
    agl("Movie", 25),
    agl("Game", 25),
    agl("Capture", 25),
    agl("Voice", 25),
    agl("Speech-Low", 30),
    agl("Custom-Low", 35),
    agl("Navigation", 50),
    agl("Speech-High", 60),
    agl("Custom-High", 65),
    agl("Communication", 75),
    agl("Emergency", 99),
    agl("Alert", 99),
    other("Notification"),
    other("GPS"),
    other("Assistant"),
    other("Phone"),
    other("Camera"),
    other("Screen"),
    other("DSP"),
    other("Production"),
    other("Accessibility"),
    other("Test"),
    other("Event"),
];

/// The role that a user names, in any case.
///
/// # Errors
/// Says which roles there are.
pub fn parse_role(name: &str) -> Result<Role, String> {
    let known = ROLES
        .iter()
        .find(|role| role.name.eq_ignore_ascii_case(name));
    known.copied().ok_or_else(|| {
        let names: Vec<_> = ROLES.iter().map(|role| role.name).collect();
        format!(
            "no known role, and a sound policy would be bypassed silently; use one of {}",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_found_in_any_case_and_spelled_as_the_policy_spells_them() {
        for role in ROLES {
            for name in [role.name.to_owned(), role.name.to_lowercase()] {
                assert_eq!(parse_role(&name), Ok(role));
            }
        }
    }

    #[test]
    fn an_unknown_role_is_refused_with_the_list() {
        for wrong in ["", "Navigatoin", "Navigation ", "Music,Movie"] {
            let error = parse_role(wrong).unwrap_err();
            assert!(error.contains("bypassed"), "{error}");
            for role in ROLES {
                assert!(error.contains(role.name), "{error}");
            }
        }
    }

    #[test]
    fn no_role_is_there_twice() {
        for (place, role) in ROLES.iter().enumerate() {
            let same = |other: &Role| other.name.eq_ignore_ascii_case(role.name);
            assert_eq!(ROLES.iter().position(same), Some(place), "{}", role.name);
        }
    }
}
