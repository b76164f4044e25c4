// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What there is to know of each card: the kernel's folder of it, its device process, its files.

use std::collections::BTreeMap;

use super::limits::Realtime;
use super::machine::Machine;
use crate::device_answer::DeviceAnswer;
use crate::driver::sysfs::{AlsaCard, CLASS, DRIVERS, DeviceFolder};
use crate::inspect::Stream;

/// Card files of the system, and the same folder of a user's configuration.
const SYSTEM_CARDS: &str = "/etc/virtio-loopback";
const USER_CARDS: &str = "virtio-loopback";
/// Virtio device id of a sound device.
const SOUND: &str = "25";

/// Who starts a card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum StartedBy {
    /// A unit of the system: there is a card file.
    System,
    /// A unit of the user: there is a card file.
    User,
    /// Somebody by hand.
    #[default]
    Hand,
}

/// A card, or another device.
#[derive(Debug, Default)]
pub(super) struct Card {
    /// Its name.
    pub(super) name: String,
    /// Whether it is a sound device.
    pub(super) is_sound: bool,
    /// Its state; `None` where there is a card file and no device.
    pub(super) state: Option<String>,
    /// Whether an adapter is attached.
    pub(super) attached: bool,
    /// The driver that has taken it.
    pub(super) driver: Option<String>,
    /// virtio_snd is there.
    pub(super) driver_is_loaded: bool,
    /// What ALSA calls it.
    pub(super) alsa: Option<AlsaCard>,
    /// What its device process says.
    pub(super) answer: Option<DeviceAnswer>,
    /// What that has of real time.
    pub(super) realtime: Option<Realtime>,
    /// A WirePlumber that has opened the card.
    pub(super) taken_by: Option<u32>,
    /// Who starts it.
    pub(super) started_by: StartedBy,
}

impl Card {
    /// All devices, and the cards that should be there.
    pub(super) fn all(machine: &Machine) -> Vec<Self> {
        let mut cards: BTreeMap<String, Self> = BTreeMap::new();
        for name in machine.names(CLASS) {
            cards.insert(name.clone(), Self::of(machine, name));
        }
        let user = machine.of_user(USER_CARDS);
        let folders = user.map(|folder| (folder, StartedBy::User));
        let folders = folders
            .into_iter()
            .chain([(SYSTEM_CARDS.to_owned(), StartedBy::System)]);
        for (folder, started_by) in folders {
            let files = machine.names(&folder).into_iter();
            for name in files.filter_map(|file| file.strip_suffix(".toml").map(str::to_owned)) {
                let card = cards.entry(name.clone()).or_insert_with(|| Self {
                    name,
                    is_sound: true,
                    ..Self::default()
                });
                card.started_by = started_by;
            }
        }
        cards.into_values().collect()
    }

    fn of(machine: &Machine, name: String) -> Self {
        let attribute = |file: &str| machine.text(&format!("{CLASS}/{name}/{file}"));
        let folder = DeviceFolder::new(&machine.path(CLASS), &name);
        let alsa = folder.alsa_card();
        let answer = DeviceAnswer::ask(machine.root(), &name);
        let process = answer.as_ref().and_then(|answer| answer.process);
        Self {
            is_sound: attribute("device_id").as_deref() == Some(SOUND),
            state: Some(attribute("state").unwrap_or_else(|| "unknown".into())),
            attached: attribute("attached").as_deref() == Some("1"),
            driver: folder.driver(),
            driver_is_loaded: machine.exists(&format!("{DRIVERS}/virtio_snd")),
            taken_by: alsa
                .as_ref()
                .and_then(|card| taken_by(machine, card.number)),
            realtime: process.and_then(|id| Realtime::of(machine, &id.to_string())),
            started_by: StartedBy::Hand,
            alsa,
            answer,
            name,
        }
    }

    /// Its streams, as far as its device process tells.
    pub(super) fn streams(&self) -> Vec<Stream> {
        let answer = self.answer.as_ref();
        let value = answer.and_then(|answer| answer.answer.as_ref().ok());
        value.map(Stream::all).unwrap_or_default()
    }

    /// A role that one of its streams has.
    pub(super) fn role(&self) -> Option<String> {
        self.streams().into_iter().find_map(|stream| stream.role)
    }
}

/// The process of a WirePlumber that has the card's control file open, as far as this process may
/// see that.
fn taken_by(machine: &Machine, card: u32) -> Option<u32> {
    let file = format!("/dev/snd/controlC{card}");
    let processes = machine.names("/proc").into_iter();
    let mut processes = processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let has_it = |process: &String| {
        let name = machine.text(&format!("/proc/{process}/comm"));
        let folder = format!("/proc/{process}/fd");
        let files = || machine.names(&folder).into_iter();
        name.as_deref() == Some("wireplumber")
            && files().any(|fd| machine.link(&format!("{folder}/{fd}")).as_deref() == Some(&file))
    };
    processes.find(has_it)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::Faked;
    use super::*;

    fn faked() -> Faked {
        let faked = Faked::new();
        let folder = "sys/class/virtio-loopback/music";
        for (file, text) in [
            ("state", "live\n"),
            ("attached", "1\n"),
            ("device_id", "25\n"),
        ] {
            faked.put(&format!("{folder}/{file}"), text);
        }
        faked.put(&format!("{folder}/virtio0/sound/card2/id"), "music\n");
        faked.link(
            &format!("{folder}/virtio0/driver"),
            "../../bus/virtio/drivers/virtio_snd",
        );
        faked
    }

    #[test]
    fn a_card_is_what_the_kernel_tells() {
        let faked = faked();
        faked.put("sys/class/virtio-loopback/dice/device_id", "4\n");
        let cards = Card::all(&faked.machine());
        let [dice, music] = &cards[..] else {
            panic!("{cards:?}")
        };
        assert!(!dice.is_sound && !dice.attached && !dice.driver_is_loaded);
        assert_eq!(
            (dice.state.as_deref(), dice.driver.as_deref()),
            (Some("unknown"), None)
        );
        assert!(music.is_sound && music.attached);
        assert_eq!(music.state.as_deref(), Some("live"));
        assert_eq!(music.driver.as_deref(), Some("virtio_snd"));
        assert_eq!(music.alsa.as_ref().map(|card| card.number), Some(2));
        assert_eq!(music.started_by, StartedBy::Hand);
        assert!(music.answer.is_none() && music.streams().is_empty() && music.role().is_none());
    }

    #[test]
    fn a_driver_that_is_there_is_seen() {
        let faked = faked();
        faked.make("sys/bus/virtio/drivers/virtio_snd");
        assert!(Card::all(&faked.machine())[0].driver_is_loaded);
    }

    #[test]
    fn a_card_file_makes_a_card_that_should_be_there() {
        let faked = faked();
        faked
            .put("etc/virtio-loopback/music.toml", "")
            .put("etc/virtio-loopback/README", "");
        faked.put("users/ann/.config/virtio-loopback/phone.toml", "");
        let cards = Card::all(&faked.machine());
        let [music, phone] = &cards[..] else {
            panic!("{cards:?}")
        };
        assert_eq!(
            (music.started_by, music.state.is_some()),
            (StartedBy::System, true)
        );
        assert_eq!(
            (phone.started_by, phone.state.is_some()),
            (StartedBy::User, false)
        );
    }

    #[test]
    fn a_wireplumber_that_has_opened_the_card_is_found() {
        let faked = faked();
        let taken = || Card::all(&faked.machine())[0].taken_by;
        faked
            .put("proc/70/comm", "aplay\n")
            .link("proc/70/fd/3", "/dev/snd/controlC2");
        faked
            .put("proc/71/comm", "wireplumber\n")
            .link("proc/71/fd/3", "/dev/snd/controlC20");
        assert_eq!(taken(), None);
        faked.link("proc/71/fd/4", "/dev/snd/controlC2");
        assert_eq!(taken(), Some(71));
    }
}
