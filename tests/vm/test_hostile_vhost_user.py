# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A device process that lies to its adapter costs nobody but itself: the card next door plays meanwhile, the
adapter says what is wrong or goes on, and an honest process has the card afterwards."""

import os
import re
import struct

import alsa_tools
import holes
import liar
import pytest
import sounds
from card import Card
from liar import HANG_UP, Liar, file_of, inflight, number, reply
from neighbour import Neighbour
from programs import wait_until
from sounds import Layout
from survivors import ServedCard

SETS = ["SET_FEATURES", "SET_MEM_TABLE", "SET_VRING_ADDR", "SET_VRING_BASE", "SET_VRING_KICK", "SET_VRING_CALL",
        "SET_VRING_ENABLE", "SET_BACKEND_REQ_FD", "SET_INFLIGHT_FD"]
OTHERS = ["SET_OWNER", "SET_PROTOCOL_FEATURES", "SET_VRING_NUM", "GET_FEATURES", "GET_PROTOCOL_FEATURES",
          "GET_QUEUE_NUM", "GET_CONFIG", "GET_INFLIGHT_FD", "GET_VRING_BASE"]
NO_MEMORY = "makes no sense: its file is not in memory"
NONSENSE, GONE = "reply to .* makes no sense", "closed the connection at|the device process has gone"
NOT_KEPT, STOPPED = "what is in flight will not outlive this program: .*", "stopped by the driver"
ALL = (1 << 64) - 1


def get_features(*payload, **header):
    return lambda _: reply(liar.GET_FEATURES, number(*payload), **header)


def get_vring_base(*numbers, **header):
    return lambda _: reply(liar.GET_VRING_BASE, struct.pack(f"<{len(numbers)}I", *numbers), **header)


def pipe():
    reader, writer = os.pipe()
    os.close(writer)
    return reader


def folder():
    return os.open("/", os.O_RDONLY)


def unread_log():
    """Whoever reads it waits until the kernel says something."""
    log = os.open("/dev/kmsg", os.O_RDONLY)
    os.lseek(log, 0, os.SEEK_END)
    return log


# By name: the message that is answered so, the answer, and what the adapter says of that; None: it goes on.
LIES = {
    "no features": ("GET_FEATURES", get_features(0), "does not offer VIRTIO_F_VERSION_1"),
    "all features": ("GET_FEATURES", get_features(ALL), None),
    "no queues": ("GET_QUEUE_NUM", lambda _: reply(liar.GET_QUEUE_NUM, number(0)), "serves 0 queue"),
    "queues without end": ("GET_QUEUE_NUM", lambda _: reply(liar.GET_QUEUE_NUM, number(ALL)), NONSENSE),
    "the answer to something else": ("GET_FEATURES", lambda _: reply(liar.GET_QUEUE_NUM, number(4)), NONSENSE),
    "no flags of an answer": ("GET_FEATURES", get_features(4, flags=0), NONSENSE),
    "an answer without end": ("GET_FEATURES", get_features(4, size=0xFFFFFFFF), NONSENSE),
    "half an answer": ("GET_FEATURES", lambda _: get_features(4)(_)[:14], "did not answer GET_FEATURES within 5 s"),
    "an answer twice": ("GET_QUEUE_NUM", lambda _: 2 * reply(liar.GET_QUEUE_NUM, number(4)), NONSENSE),
    "no config": ("GET_CONFIG", lambda body: reply(liar.GET_CONFIG, body[:12]), "did not answer GET_CONFIG"),
    "config of other bytes": ("GET_CONFIG", lambda body: reply(liar.GET_CONFIG, b"\xff" * len(body)), NONSENSE),
    "jacks without end": ("GET_CONFIG", lambda body: reply(liar.GET_CONFIG, body[:12] + b"\xff" * 16),
                           "more than 1024 jacks"),
    "queues of no size": ("SET_VRING_NUM", lambda _: reply(liar.SET_VRING_NUM, number(1)), "queues of no size"),
    "silence": ("SET_VRING_KICK", lambda _: None, GONE),
    "no area": ("GET_INFLIGHT_FD", lambda _: inflight(4096, 0), NONSENSE),
    "two areas": ("GET_INFLIGHT_FD", lambda _: inflight(4096, 0, file_of(4096), file_of(4096)), NONSENSE),
    "an area of no queues": ("GET_INFLIGHT_FD", lambda _: inflight(4096, 0, file_of(4096), queues=0), NONSENSE),
    "an area of nothing": ("GET_INFLIGHT_FD", lambda _: inflight(0, 0, file_of(0)), None),
    "an area in a pipe": ("GET_INFLIGHT_FD", lambda _: inflight(4096, 0, pipe()), NO_MEMORY),
    "an area in a folder": ("GET_INFLIGHT_FD", lambda _: inflight(4096, 0, folder()), NO_MEMORY),
    "an area whose reader waits": ("GET_INFLIGHT_FD", lambda _: inflight(4096, 0, unread_log()), NO_MEMORY),
    "an area without end": ("GET_INFLIGHT_FD", lambda _: inflight(ALL, 0, file_of(4096)), NOT_KEPT + "too large"),
    "an area beyond the file": ("GET_INFLIGHT_FD", lambda _: inflight(4096, 4096, file_of(4096)), NOT_KEPT + "fill"),
    "an area far beyond it": ("GET_INFLIGHT_FD", lambda _: inflight(4096, ALL, file_of(4096)), NOT_KEPT + "Invalid"),
    "an area longer than its file": ("GET_INFLIGHT_FD", lambda _: inflight(4096, 0, file_of(4095)), NOT_KEPT + "fill"),
    "the base of no queue": ("GET_VRING_BASE", get_vring_base(0xFFFFFFFF, 0), STOPPED),
    "a base outside": ("GET_VRING_BASE", get_vring_base(0, 0xFFFFFFFF), STOPPED),
    "half a base": ("GET_VRING_BASE", get_vring_base(0), GONE),
    "a base and more": ("GET_VRING_BASE", get_vring_base(0, 0, 0), NONSENSE),
    "no base": ("GET_VRING_BASE", lambda _: None, GONE),
    **{f"no to {name}": (name, lambda _, name=name: reply(getattr(liar, name), number(1)), f"refused {name}")
       for name in SETS},
    **{f"hangs up at {name}": (name, lambda _: HANG_UP, GONE) for name in SETS + OTHERS},
}
# The same of what a later device process alone can lie in: it has not what the card has.
LATER_LIES = {
    "fewer features": ("GET_FEATURES", get_features(liar.FEATURES & ~liar.EVENT_IDX), "features 0x20000000 that"),
    "another config": ("GET_FEATURES", get_features(liar.FEATURES & ~liar.CTLS), "has 16 bytes, not 12"),
    "jacks without end": LIES["jacks without end"],
}
# virtio_snd, of a device that answers none of its questions.
pytestmark = pytest.mark.kernel_may_say(r"virtio_?snd|virtio\d+")


class DeceivedCard(Card):
    """Its device process is a liar at first, of whom the adapter may tell, and end."""

    endings = (0, 1)

    def start_device(self):
        self.device = None

    def wait_ready(self):
        pass


class EphemeralCard(ServedCard):
    """It goes with its adapter."""

    options = ("--ephemeral",)


def ends_properly(adapter):
    """It has survived, and ends when it is asked to; or it has ended with an error that it says."""
    asked = adapter.running()
    status, said = adapter.stop(), adapter.output()
    assert "panicked" not in said, said
    assert asked and status == 0 or status == 1 and " error: " in said, f"status {status}\n{said}"


@pytest.mark.parametrize("lie", LIES)
def test_a_lie(make_card, lie):
    name, answer, says = LIES[lie]
    neighbour = Neighbour(make_card)
    card = make_card("wire", "--host", "null", kind=DeceivedCard)
    device = Liar(card.socket, getattr(liar, name), answer)
    neighbour.play(lambda: wait_until(lambda: device.told, "the lie"))
    if says is None:
        wait_until(lambda: card.state() or not card.adapter.running(), "the device")
    else:
        # One that does not answer has five seconds.
        wait_until(lambda: re.search(says, card.adapter.output()) or not card.adapter.running(), says)
    device.close()
    ends_properly(card.adapter)
    said = card.adapter.output()
    assert says is None or re.search(says, said), said
    card.destroy()
    # An honest one.
    make_card("wire", "--host", "null")


@pytest.mark.parametrize("lie", LATER_LIES)
def test_a_lie_of_a_later_process(make_card, real, lie):
    """The adapter says once what is wrong, and waits; the next process is honest, and who plays goes on."""
    name, answer, says = LATER_LIES[lie]
    card = make_card("wire", "--host", "alsa", "--playback-device", real.device, kind=EphemeralCard)
    sound = sounds.noise(Layout(), 4 * 48000)
    recorder = alsa_tools.Recorder(real.far_end, sound.layout)
    # ALSA waits for as long as the buffer is.
    player = alsa_tools.Player(card.pcm, sound, period=9600, buffer=96000)
    recorder.wait_for(recorder.frames() + 24000)
    card.device.kill()
    device = Liar(card.socket, getattr(liar, name), answer)
    wait_until(lambda: device.told > 1 or not card.adapter.running(), "some tries")
    assert card.adapter.running(), card.adapter.output()
    device.close()
    card.start_device()
    player.finish()
    found = holes.pieces(sound, recorder.finish(), recorder.buffer)
    assert (found[0].start, found[-1].end, len(found)) == (0, sound.frames, 2), found
    waits = f"cannot serve wire, and waits for another device process on {card.socket}: .*{says}"
    assert len(re.findall(waits, card.adapter.output())) == 1, card.adapter.output()


def unasked(request, flags=1 | liar.NEED_REPLY, size=0):
    return liar.HEADER.pack(request, flags, size)


@pytest.fixture
def caller(make_card):
    """A card that is served by a device process, honest so far, which has a channel to say something unasked; and
    how it ends."""
    card = make_card("wire", "--host", "null", kind=DeceivedCard)
    accepted = reply(liar.SET_BACKEND_REQ_FD, number(0))
    device = Liar(card.socket, liar.SET_BACKEND_REQ_FD, lambda _: accepted)
    wait_until(lambda: "serving" in card.adapter.output(), "the card")
    yield card, device
    # The kernel's requests were answered as ever.
    wait_until(lambda: STOPPED in card.adapter.output(), STOPPED)
    assert card.adapter.running(), card.adapter.output()
    device.close()
    ends_properly(card.adapter)
    card.destroy()
    make_card("wire", "--host", "null")


UNASKED = {
    "noise": os.urandom(4096),
    "a request that is none": unasked(0xFFFFFFFF),
    "a request without end": unasked(liar.CONFIG_CHANGE, size=0xFFFFFFFF),
    "an answer": unasked(liar.CONFIG_CHANGE, flags=liar.REPLY),
    "half a request and the next": unasked(liar.CONFIG_CHANGE)[:7] + unasked(liar.CONFIG_CHANGE),
    "a file without a file": unasked(liar.SHMEM_MAP, size=40) + bytes(40),
}


@pytest.mark.parametrize("nonsense", UNASKED)
def test_nonsense_unasked(make_card, caller, nonsense):
    """It costs the device process the channel."""
    card, device = caller
    Neighbour(make_card).play(lambda: device.say(UNASKED[nonsense]))
    says = "request channel is broken"
    wait_until(lambda: says in card.adapter.output(), says)
    # And nobody listens to more of it.
    device.say(100 * unasked(liar.CONFIG_CHANGE))
    assert card.adapter.output().count(says) == 1, card.adapter.output()


@pytest.mark.parametrize("flags", [1, 1 | liar.NEED_REPLY], ids=["unanswered", "whose answers nobody reads"])
def test_config_changes_without_end(make_card, caller, flags):
    _, device = caller
    before = device.heard[liar.GET_CONFIG]
    Neighbour(make_card).play(lambda: device.say(50000 * unasked(liar.CONFIG_CHANGE, flags)))
    wait_until(lambda: device.heard[liar.GET_CONFIG] > before, "the question what has changed")
