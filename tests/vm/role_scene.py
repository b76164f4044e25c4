# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""The cards of examples/cards that have roles, on PipeWire with AGL's policy, on one real card.

Everything is as a user copies it from examples/: cards, policy, the rule that hides the cards, and
ALSA's names for them.
"""

import os
import shutil

import alsa_tools
import guest_memory
import programs
import sound_server
from card import Card
from programs import Program, wait_until
from real_card import RealCard
from sounds import Layout
from wireplumber import EXAMPLES, WirePlumber

CARDS = ["music", "navigation", "phone"]
# How WirePlumber calls the real card as a sink, and the card where it can be listened to.
SINK = "alsa_output.platform-snd_aloop.0.stereo-fallback"
REAL = RealCard("real0")
LAYOUT = Layout("S32_LE")  # of the sink
ALSA_NAMES = EXAMPLES.parent / "alsa" / "asound.conf"


class RoleScene:
    """Sets the scene; `play` lets a card play a file, `recorder` has what the real card got."""

    def __init__(self, version):
        self.server = WirePlumber(version)
        self.cards = {}
        self.players = []
        self.recorder = None

    def install(self):
        """Puts what runs here into memory, where also ALSA's names are; takes its time."""
        self.server.unpack()
        sound_server.install()
        guest_memory.add(["/usr/bin/amixer"])

    def start(self):
        # The device processes find the server as clients do.
        os.environ.update(self.server.environment)
        shutil.copy(ALSA_NAMES, guest_memory.ROOT / "etc")
        self.start_server()
        for name in CARDS:
            # Where the device process, which runs in memory, finds it.
            card_file = shutil.copy(EXAMPLES.parent / "cards" / f"{name}.toml", programs.FOLDER)
            self.add_card(name, "--card", card_file)
        # PipeWire does not interleave; a real card that is recorded would be busy to it before.
        self.recorder = alsa_tools.Recorder(REAL.far_end, LAYOUT, separate=True)
        return self

    def start_server(self):
        self.server.start(EXAMPLES / self.server.version)
        wait_until(lambda: SINK in self.server.nodes(), f"the real card as {SINK}", pause=0.5)
        self.server.run("pw-metadata", "0", "default.configured.audio.sink", f'{{ "name": "{SINK}" }}')
        # WirePlumber turns a new sink down.
        self.server.run("wpctl", "set-volume", "@DEFAULT_AUDIO_SINK@", "1.0")

    def add_card(self, name, *host):
        self.cards[name] = Card(name, *host).start()

    def play(self, device, path):
        """Lets an application play on a card, as examples/alsa names it, or any other device."""
        self.players.append(Program("aplay", "-D", device, path))
        return self.players[-1]

    def stop(self):
        """Ends everything; the cards in peace."""
        for program in [*self.players, self.recorder]:
            program.kill()
        for card in self.cards.values():
            card.destroy()
        self.abandon()

    def abandon(self):
        """Ends everything, whatever state it is in."""
        for card in self.cards.values():
            card.abandon()
        self.server.stop()
        (guest_memory.ROOT / "etc" / ALSA_NAMES.name).unlink(missing_ok=True)
        for name in self.server.environment:
            os.environ.pop(name, None)

    def report(self):
        """What everybody said, for a test that has failed."""
        return "\n".join([self.server.report(), *(card.report() for card in self.cards.values())])
