# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A device process that lies to its adapter costs nobody but itself: the card next door plays meanwhile, the
adapter says what is wrong or goes on, and an honest process has the card afterwards."""

import re

import liar
import pytest
from card import Card
from liar import HANG_UP, Liar, number, reply
from neighbour import Neighbour
from programs import wait_until

SETS = ["SET_FEATURES", "SET_MEM_TABLE", "SET_VRING_ADDR", "SET_VRING_BASE", "SET_VRING_KICK", "SET_VRING_CALL",
        "SET_VRING_ENABLE"]
OTHERS = ["SET_OWNER", "SET_PROTOCOL_FEATURES", "SET_VRING_NUM", "GET_FEATURES", "GET_PROTOCOL_FEATURES",
          "GET_QUEUE_NUM", "GET_CONFIG"]
NONSENSE, GONE = "reply to .* makes no sense", "closed the connection at|the device process has gone"


def get_features(*payload, **header):
    return lambda _: reply(liar.GET_FEATURES, number(*payload), **header)


# By name: the message that is answered so, the answer, and what the adapter says of that; None: it goes on.
LIES = {
    "no features": ("GET_FEATURES", get_features(0), "does not offer VIRTIO_F_VERSION_1"),
    "all features": ("GET_FEATURES", get_features((1 << 64) - 1), None),
    "no queues": ("GET_QUEUE_NUM", lambda _: reply(liar.GET_QUEUE_NUM, number(0)), "serves 0 queue"),
    "queues without end": ("GET_QUEUE_NUM", lambda _: reply(liar.GET_QUEUE_NUM, number((1 << 64) - 1)), NONSENSE),
    "the answer to something else": ("GET_FEATURES", lambda _: reply(liar.GET_QUEUE_NUM, number(4)), NONSENSE),
    "no flags of an answer": ("GET_FEATURES", get_features(4, flags=0), NONSENSE),
    "an answer without end": ("GET_FEATURES", get_features(4, size=0xFFFFFFFF), NONSENSE),
    "half an answer": ("GET_FEATURES", lambda _: get_features(4)(_)[:14], "did not answer GET_FEATURES within 5 s"),
    "an answer twice": ("GET_QUEUE_NUM", lambda _: 2 * reply(liar.GET_QUEUE_NUM, number(4)), NONSENSE),
    "no config": ("GET_CONFIG", lambda body: reply(liar.GET_CONFIG, body[:12]), "did not answer GET_CONFIG"),
    "config of other bytes": ("GET_CONFIG", lambda body: reply(liar.GET_CONFIG, b"\xff" * len(body)), NONSENSE),
    "jacks without end": ("GET_CONFIG", lambda body: reply(liar.GET_CONFIG, body[:12] + b"\xff" * 16), "E2BIG"),
    "queues of no size": ("SET_VRING_NUM", lambda _: reply(liar.SET_VRING_NUM, number(1)), "queues of no size"),
    "silence": ("SET_VRING_KICK", lambda _: None, GONE),
    **{f"no to {name}": (name, lambda _, name=name: reply(getattr(liar, name), number(1)), f"refused {name}")
       for name in SETS},
    **{f"hangs up at {name}": (name, lambda _: HANG_UP, GONE) for name in SETS + OTHERS},
}
# virtio_snd, of a device that answers none of its questions.
pytestmark = pytest.mark.kernel_may_say(r"virtio_?snd|virtio\d+")


class DeceivedCard(Card):
    """Its device process is a liar at first."""

    def start_device(self):
        self.device = None

    def wait_ready(self):
        pass


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
    card.adapter.kill()
    said = card.adapter.output()
    assert "panicked" not in said and (says is None or re.search(says, said)), said
    card.destroy()
    # An honest one.
    make_card("wire", "--host", "null")
