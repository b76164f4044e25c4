# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A card is removed in the middle of what an application asks it, or of being named; the driver, while it plays."""

import ctypes
import errno
import os
import signal
import threading
import time

import alsa_tools
import programs
import pytest
import sounds
from device import Control
from programs import wait_until
from reach import LIBC
from sounds import Layout

DELETE_MODULE = 176
ALSA = ctypes.CDLL("libasound.so.2")
S16_LE, INTERLEAVED = 2, 3


class Asker(threading.Thread):
    """An application that prepares a stream again and again, until it is told that the card has gone."""

    def __init__(self, pcm):
        super().__init__(daemon=True)
        self.handle = ctypes.c_void_p()
        assert ALSA.snd_pcm_open(ctypes.byref(self.handle), pcm.encode(), 0, 0) == 0
        assert ALSA.snd_pcm_set_params(self.handle, S16_LE, INTERLEAVED, 2, 48000, 0, 40000) == 0
        self.times = 0
        self.start()

    def run(self):
        while ALSA.snd_pcm_prepare(self.handle) == 0:
            self.times += 1
        ALSA.snd_pcm_close(self.handle)

    def waits(self):
        """Whether what it asked has no answer."""
        before = self.times
        time.sleep(0.05)
        return self.times == before


class Namer(threading.Thread):
    """Gives a card its id again and again, as udev does once, until it has none."""

    def __init__(self, card):
        super().__init__(daemon=True)
        self.file = card.id_file()
        self.times = 0
        self.start()

    def run(self):
        try:
            while True:
                self.file.write_text(("musik", "music")[self.times % 2])
                self.times += 1
        except OSError:
            pass


# One request may come at the very moment: it is not sent, and virtio_snd says so.
@pytest.mark.kernel_may_say(r"failed to send control message \(0x00000102\)")
@pytest.mark.core
def test_while_a_request_is_under_way(make_card):
    for _ in range(4):
        card = make_card("music", "--host", "null", "--controls", "none")
        asker = Asker(card.pcm)
        wait_until(lambda: asker.times > 100, "some requests")
        card.destroy()
        asker.join(10)
        assert not asker.is_alive(), "the application was not told"


@pytest.mark.core
def test_while_it_is_given_an_id(make_card):
    """The sound core would follow a null pointer, with a lock held that all cards need."""
    for _ in range(4):
        card = make_card("music", "--host", "null", "--controls", "none")
        namer = Namer(card)
        wait_until(lambda: namer.times > 100, "some names")
        card.destroy()
        namer.join(10)
        assert not namer.is_alive()


@pytest.mark.kernel_may_say(r"failed to send control message \(0x00000102\)")
@pytest.mark.core
def test_it_has_no_id_from_the_start_of_its_removal(make_card):
    card = make_card("music", "--host", "null", "--controls", "none")
    file = card.id_file()
    asker = Asker(card.pcm)
    wait_until(lambda: asker.times > 100, "some requests")
    card.device.send(signal.SIGSTOP)
    wait_until(asker.waits, "a request without an answer")
    # The removal waits for it, for a second at most.
    with Control() as control:
        control.destroy(card.name)
    wait_until(lambda: not file.exists(), "the end of the id")
    assert (file.parent / "number").exists(), "the card went first"
    card.device.send(signal.SIGCONT)
    card.destroy()
    asker.join(10)
    assert not asker.is_alive(), "the application was not told"


@pytest.mark.core
def test_the_driver_stays_while_a_card_plays(music, real):
    """rmmod looks before it asks the kernel, which refuses it, too. Not a sample is lost."""
    sound = sounds.noise(Layout(), 2 * 48000)
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    player = alsa_tools.Player(music.pcm, sound, period=480, buffer=1920)
    recorder.wait_for(recorder.frames() + 24000)
    refused = programs.run("rmmod", "virtio_loopback", check=False)
    assert refused.returncode == 1 and "Module virtio_loopback is in use" in refused.stderr, refused
    assert LIBC.syscall(DELETE_MODULE, b"virtio_loopback", os.O_NONBLOCK) == -1
    assert ctypes.get_errno() == errno.EWOULDBLOCK
    assert player.running(), "the sound ended before"
    player.finish()
    result = recorder.compare(sound)
    assert result.exact, str(result)
