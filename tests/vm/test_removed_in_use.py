# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A card is removed in the middle of what an application asks it."""

import ctypes
import threading

import pytest
from programs import wait_until

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
