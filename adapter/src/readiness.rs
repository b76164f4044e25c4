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
/// How long a card is looked for.
const CARD_TIME: Duration = Duration::from_secs(5);
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
    /// Nobody wants to know, or it has been told, or given up.
    Over,
    /// The device has not been served yet.
    NotYet,
    /// Served since then; the next look is due.
    Since { served: Instant, next: Instant },
}

/// What a look at the device shows.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// It can be used; what is to be said of it.
    Usable(String),
    /// Something is still to come.
    Coming,
    /// What did not come in time.
    Late(&'static str),
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
        match self.look {
            Look::NotYet => {
                let now = Instant::now();
                self.look = Look::Since {
                    served: now,
                    next: now,
                };
                self.look();
            }
            _ => tell(&[NotifyState::Status("serving")]),
        }
    }

    /// The device process has gone; another one is waited for.
    pub fn unserved(&self) {
        tell(&[NotifyState::Status("waiting for a device process")]);
    }

    /// When to look again.
    pub fn due(&self) -> Option<Instant> {
        match self.look {
            Look::Since { next, .. } => Some(next),
            Look::Over | Look::NotYet => None,
        }
    }

    /// Looks at the device if that is due, and tells the service manager when it can be used.
    pub fn look(&mut self) {
        let now = Instant::now();
        let Look::Since { served, next } = self.look else {
            return;
        };
        if now < next {
            return;
        }
        self.look = match self.see(now.saturating_duration_since(served)) {
            Seen::Coming => Look::Since {
                served,
                next: now + PERIOD,
            },
            Seen::Usable(status) => {
                tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
                Look::Over
            }
            Seen::Late(what) => {
                log::warn!("{what}");
                Look::Over
            }
        };
    }

    /// What there is `after` the device was first served.
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
            None if after >= CARD_TIME => Seen::Late(
                "the driver serves the device, but there is no ALSA card: the kernel log may say why",
            ),
            _ => Seen::Coming,
        }
    }

    /// The card's files are there, and udev has done with them, or there is no udev.
    fn is_given_away(&self) -> bool {
        let known = |number: &String| self.udev.join(format!("c{number}")).exists();
        let files = self.folder.alsa_files();
        files.is_some_and(|files| !self.udev.exists() || files.iter().all(known))
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
        assert_eq!(machine.readiness.see(SOON), Seen::Coming);
        machine.card("music\n");
        assert_eq!(machine.readiness.see(SOON), Seen::Coming);
        machine.file("pcmC2D0p", "116:8\n");
        machine.write("udev/c116:8", "");
        assert_eq!(machine.readiness.see(SOON), Seen::Coming);
        machine.file("controlC2", "116:9\n");
        assert_eq!(machine.readiness.see(SOON), Seen::Coming);
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
        assert_eq!(machine.readiness.see(SOON), Seen::Coming);
        machine.file("controlC2", "116:9\n");
        assert!(matches!(machine.readiness.see(SOON), Seen::Usable(_)));
        machine.card("SoundCard\n");
        assert_eq!(machine.readiness.see(SOON), Seen::Coming);
        let usable = Seen::Usable("serving ALSA card 2 (hw:SoundCard)".into());
        assert_eq!(machine.readiness.see(UDEV_TIME), usable);
    }

    #[test]
    fn a_card_that_does_not_come_is_given_up() {
        let machine = machine("sound");
        assert_eq!(machine.readiness.see(UDEV_TIME), Seen::Coming);
        assert!(matches!(machine.readiness.see(CARD_TIME), Seen::Late(_)));
    }
}
