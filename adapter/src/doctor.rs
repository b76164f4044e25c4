// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! `virtio-loopback doctor`: what must be right for a card to sound, one check after the other.
//!
//! Each check is a function of facts; facts are read from files below a root folder ([`Machine`]),
//! so that a test can make every fault in a temporary one. Nothing is changed.

mod access;
mod card_checks;
mod cards;
mod finding;
mod kernel;
mod limits;
mod machine;
mod module;
mod rules;
mod wireplumber;

use access::{Access, Caller};
use cards::Card;
use kernel::Kernel;
use limits::Realtime;
use module::Module;
use rules::Rules;
use wireplumber::WirePlumber;

pub use finding::{Finding, Verdict, report, worst};
pub use machine::Machine;

/// Looks at everything, in the order in which it has to be right.
pub fn examine(machine: &Machine) -> Vec<Finding> {
    let kernel = Kernel::of(machine);
    let module = Module::of(machine, &kernel);
    let caller = Caller::of(machine);
    let rules = Rules::of(machine);
    let wireplumber = WirePlumber::of(machine);
    let cards = Card::all(machine);
    let role = cards.iter().find_map(Card::role);
    let own = Realtime::of(machine, "self");
    let mut findings = vec![
        kernel::dma(&kernel),
        kernel::virtio_snd(&kernel),
        module::loaded(&module, &kernel),
        module::at_boot(&module),
        access::check(&Access::of(machine), &caller),
        rules::names(&rules),
        rules::volume(&rules),
        rules::period(&rules),
        wireplumber::hidden(&wireplumber, rules.hides.as_deref()),
        wireplumber::policy(&wireplumber, role.as_deref()),
        limits::of_caller(own.as_ref(), &caller),
    ];
    let of_cards = cards
        .iter()
        .flat_map(|card| card_checks::checks(card, &wireplumber));
    findings.extend(of_cards);
    findings
}

#[cfg(test)]
mod tests {
    use super::machine::tests::Faked;
    use super::*;

    #[test]
    fn an_empty_machine_is_told_all_that_is_missing() {
        let findings = examine(&Faked::new().machine());
        let wrong = findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Wrong);
        let wrong: Vec<_> = wrong.map(|finding| finding.check).collect();
        assert_eq!(wrong, ["virtio_snd", "module", "udev"]);
        assert_eq!(worst(&findings), Verdict::Wrong);
    }

    #[test]
    fn every_check_of_this_machine_says_something() {
        for finding in examine(&Machine::this()) {
            assert!(!finding.text.is_empty(), "{finding:?}");
        }
    }
}
