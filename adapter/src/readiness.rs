// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! What a service manager is told (`sd_notify`): once that the device can be used, and how it is.
//!
//! A sound device can be used when its ALSA card is there, under its name, and udev has said who
//! may open it: what a service manager starts after that finds the card. The kernel tells nobody
//! when that is so, hence a short time of looking. Without a service manager nobody looks.

use std::env;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use virtio_bindings::virtio_ids::VIRTIO_ID_SOUND;

use crate::device_type::DeviceType;
use crate::driver::sysfs::{AlsaCard, CLASS, DeviceFolder};
use crate::driver::{ALSA_ID_MAX, DeviceName};

/// How often a card that is on its way is looked for.
const PERIOD: Duration = Duration::from_millis(20);
/// How long a card may take before the user is told.
const CARD_TIME: Duration = Duration::from_secs(5);
/// How often a card that is late is looked for.
const LATE_PERIOD: Duration = Duration::from_millis(250);
/// How long udev may take to name the card and to give its files away.
const UDEV_TIME: Duration = Duration::from_secs(2);
/// Where udev keeps what it knows of a device.
const UDEV_DATA: &str = "/run/udev/data";

/// Watches a device until it can be used.
#[derive(Debug)]
pub struct Readiness {
    folder: DeviceFolder,
    udev: PathBuf,
    /// Id of the ALSA card, for a device that becomes one.
    card_id: Option<String>,
    look: Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Nobody wants to know, or it has been told.
    Over,
    /// The device has not been served yet.
    NotYet,
    /// It is served.
    Served(Wait),
}

/// Since when what has been waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    /// Served since then.
    served: Instant,
    /// There has been a card since then.
    card: Option<Instant>,
    /// The user has been told that there is none.
    told: bool,
    /// The next look is due.
    next: Instant,
}

/// What a look at the device shows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// It can be used; what is to be said of it.
    Usable(String),
    /// There is a card, and udev has not done with it.
    Card,
    /// There is no card.
    NoCard,
}

impl Readiness {
    /// Of the device called `name`; inert where no service manager waits for it.
    pub fn new(name: &DeviceName, device: &DeviceType) -> Self {
        let mut readiness = Self::of(Path::new(CLASS), Path::new(UDEV_DATA), name, device);
        if env::var_os("NOTIFY_SOCKET").is_none() {
            readiness.look = Look::Over;
        }
        readiness
    }

    fn of(class: &Path, udev: &Path, name: &DeviceName, device: &DeviceType) -> Self {
        let id = name.shortened_alsa_id().map(str::to_owned);
        Self {
            folder: DeviceFolder::new(class, &name.to_string()),
            udev: udev.to_owned(),
            card_id: (device.id == VIRTIO_ID_SOUND).then(|| id.unwrap_or(name.to_string())),
            look: Look::NotYet,
        }
    }

    /// The device process has begun to serve the device.
    pub fn served(&mut self) {
        self.served_at(Instant::now());
    }

    fn served_at(&mut self, now: Instant) {
        if self.look == Look::Over {
            tell(&[NotifyState::Status("serving")]);
            return;
        }
        // Another device process begins anew: its card has the whole time to come.
        self.look = Look::Served(Wait {
            served: now,
            card: None,
            told: false,
            next: now,
        });
        self.look_at(now);
    }

    /// The device process has gone; another one is waited for.
    pub fn unserved(&self) {
        tell(&[NotifyState::Status("waiting for a device process")]);
    }

    /// When to look again.
    pub fn due(&self) -> Option<Instant> {
        match self.look {
            Look::Served(wait) => Some(wait.next),
            Look::Over | Look::NotYet => None,
        }
    }

    /// Looks at the device if that is due, and tells the service manager when it can be used.
    pub fn look(&mut self) {
        self.look_at(Instant::now());
    }

    fn look_at(&mut self, now: Instant) {
        let Look::Served(wait) = self.look else {
            return;
        };
        if now < wait.next {
            return;
        }
        let after = wait.card.map(|since| now.saturating_duration_since(since));
        self.look = match self.see(after.unwrap_or_default()) {
            Seen::Card => Look::Served(Wait {
                card: wait.card.or(Some(now)),
                next: now + PERIOD,
                ..wait
            }),
            Seen::NoCard => Look::Served(wait.without_card(now)),
            Seen::Usable(status) => {
                tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
                Look::Over
            }
        };
    }

    /// What there is `after` the card was first seen.
    fn see(&self, after: Duration) -> Seen {
        let Some(id) = &self.card_id else {
            return Seen::Usable("serving".into());
        };
        match self.folder.alsa_card() {
            Some(card) if card.id == *id && self.is_given_away() => {
                Seen::Usable(format!("serving ALSA card {} (hw:{id})", card.number))
            }
            Some(AlsaCard { number, id: other }) if after >= UDEV_TIME => {
                if other != *id {
                    log::warn!(
                        "the card is hw:{other} instead of hw:{id}: is the udev rule \
                         60-virtio-loopback.rules installed, and the name (at most {ALSA_ID_MAX} \
                         characters) not taken by another card?"
                    );
                }
                Seen::Usable(format!("serving ALSA card {number} (hw:{other})"))
            }
            Some(_) => Seen::Card,
            None => Seen::NoCard,
        }
    }

    /// The card's files are there, and udev has done with them, or there is no udev.
    fn is_given_away(&self) -> bool {
        let known = |number: &String| self.udev.join(format!("c{number}")).exists();
        let files = self.folder.alsa_files();
        files.is_some_and(|files| !self.udev.exists() || files.iter().all(known))
    }
}

impl Wait {
    /// There is no card `now`. One that is late is looked for as long as the service manager waits.
    fn without_card(self, now: Instant) -> Self {
        let late = now.saturating_duration_since(self.served) >= CARD_TIME;
        if late && !self.told {
            log::warn!(
                "the driver serves the device, but there is no ALSA card: the kernel log may say why"
            );
        }
        Self {
            card: None,
            told: self.told || late,
            next: now + if late { LATE_PERIOD } else { PERIOD },
            ..self
        }
    }
}

/// A service manager that cannot be told anything is none of the device's business.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("the service manager cannot be told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    struct Machine {
        folder: tempfile::TempDir,
        readiness: Readiness,
    }

    fn machine(device: &str) -> Machine {
        let folder = tempfile::tempdir().unwrap();
        let (class, udev) = (folder.path().join("class"), folder.path().join("udev"));
        let name = "music".parse().unwrap();
        let readiness = Readiness::of(&class, &udev, &name, &device.parse().unwrap());
        Machine { folder, readiness }
    }

    impl Machine {
        fn write(&self, path: &str, text: &str) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn card(&self, id: &str) {
            self.write("class/music/virtio0/sound/card2/id", id);
        }

        fn file(&self, name: &str, number: &str) {
            let path = format!("class/music/virtio0/sound/card2/{name}/dev");
            self.write(&path, number);
        }
    }

    #[test]
    fn other_devices_than_sound_are_usable_once_they_are_served() {
        let mut machine = machine("rng");
        assert_eq!(machine.readiness.due(), None);
        machine.readiness.served();
        assert_eq!(machine.readiness.look, Look::Over);
    }

    #[test]
    fn a_card_is_usable_with_its_name_and_its_files() {
        let mut machine = machine("sound");
        machine.write("udev/c1:1", "");
        machine.readiness.served();
        assert!(machine.readiness.due().is_some());
        machine.card("SoundCard\n");
        assert_eq!(machine.readiness.see(SOON), Seen::Card);
        machine.card("music\n");
        assert_eq!(machine.readiness.see(SOON), Seen::Card);
        machine.file("pcmC2D0p", "116:8\n");
        machine.write("udev/c116:8", "");
        assert_eq!(machine.readiness.see(SOON), Seen::Card);
        machine.file("controlC2", "116:9\n");
        assert_eq!(machine.readiness.see(SOON), Seen::Card);
        machine.write("udev/c116:9", "");
        let usable = Seen::Usable("serving ALSA card 2 (hw:music)".into());
        assert_eq!(machine.readiness.see(SOON), usable);
        std::thread::sleep(2 * PERIOD);
        machine.readiness.look();
        assert_eq!(machine.readiness.look, Look::Over);
    }

    #[test]
    fn a_machine_without_udev_is_not_waited_for_long() {
        let machine = machine("sound");
        machine.card("music\n");
        assert_eq!(machine.readiness.see(SOON), Seen::Card);
        machine.file("controlC2", "116:9\n");
        assert!(matches!(machine.readiness.see(SOON), Seen::Usable(_)));
        machine.card("SoundCard\n");
        assert_eq!(machine.readiness.see(SOON), Seen::Card);
        let usable = Seen::Usable("serving ALSA card 2 (hw:SoundCard)".into());
        assert_eq!(machine.readiness.see(UDEV_TIME), usable);
    }

    fn wait(machine: &Machine) -> Wait {
        match machine.readiness.look {
            Look::Served(wait) => wait,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_card_that_comes_late_is_usable_when_udev_has_done_with_it() {
        let mut machine = machine("sound");
        let now = Instant::now();
        machine.readiness.served_at(now);
        assert!(!wait(&machine).told);
        machine.readiness.look_at(now + CARD_TIME);
        assert!(wait(&machine).told);
        let late = now + 2 * CARD_TIME;
        machine.readiness.look_at(late);
        assert_eq!(machine.readiness.due(), Some(late + LATE_PERIOD));
        machine.card("SoundCard\n");
        machine.readiness.look_at(late + LATE_PERIOD);
        assert_eq!(wait(&machine).card, Some(late + LATE_PERIOD));
        machine.card("music\n");
        machine.file("controlC2", "116:9\n");
        machine.readiness.look_at(late + LATE_PERIOD + PERIOD);
        assert_eq!(machine.readiness.look, Look::Over);
    }

    #[test]
    fn another_device_process_has_the_whole_time_for_its_card() {
        let mut machine = machine("sound");
        let now = Instant::now();
        machine.readiness.served_at(now);
        machine.readiness.look_at(now + CARD_TIME);
        assert!(wait(&machine).told);
        machine.readiness.served_at(now + CARD_TIME);
        machine.readiness.look_at(now + CARD_TIME + 2 * PERIOD);
        assert!(!wait(&machine).told);
        machine.readiness.look_at(now + 2 * CARD_TIME);
        assert!(wait(&machine).told);
    }
}
