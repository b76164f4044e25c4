# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Cards described in a file: several devices, substreams and hosts, as ALSA and its users see them."""

import pathlib
import re
import shutil

import alsa_tools
import programs
import pytest
import sounds
from sounds import Layout

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples/cards"

# Two devices: the first plays two substreams and captures, the second plays one, left and right
# exchanged.
CARD = """
[[stream]]
direction = "playback"
host = "file"
file = "first.wav"
substreams = 2

[[stream]]
direction = "capture"
host = "null"
channels = 2

[[stream]]
direction = "playback"
host = "file"
file = "second.wav"
device = 1
formats = ["S16"]
rates = [48000]
channels = 2
channel-maps = [["FR", "FL"]]

[[control]]
name = "First Playback Volume"
kind = "volume"
streams = [0]

[[control]]
name = "Second Playback Switch"
kind = "mute"
streams = [2]
"""


@pytest.fixture
def card(make_card, tmp_path):
    """The card above; its files are in the test's folder."""
    (tmp_path / "card.toml").write_text(CARD)
    return make_card("music", "--card", tmp_path / "card.toml")


def listed(command):
    """Devices of the card that aplay or arecord lists: their number and count of substreams."""
    pattern = r"^card \d+: music \[.*?\], device (\d+): .*\n  Subdevices: \d+/(\d+)$"
    output = programs.run(command, "-l").stdout
    return [(int(device), int(count)) for device, count in re.findall(pattern, output, re.MULTILINE)]


@pytest.mark.core
def test_devices_and_substreams_are_those_of_the_file(card):
    assert listed("aplay") == [(0, 2), (1, 1)]
    assert listed("arecord") == [(0, 1)]
    folder = pathlib.Path("/proc/asound/music")
    found = sorted(path.relative_to(folder).as_posix() for path in folder.glob("pcm*/sub*"))
    assert found == ["pcm0c/sub0", "pcm0p/sub0", "pcm0p/sub1", "pcm1p/sub0"]
    # The second device offers what the file leaves of its host.
    dump = programs.run("aplay", "-D", f"{card.pcm},1", "--dump-hw-params", "-s", "1", "/dev/zero", check=False).stderr
    parameters = dict(re.findall(r"^(FORMAT|CHANNELS|RATE): +(.+?) *$", dump, re.MULTILINE))
    assert parameters == {"FORMAT": "S16_LE", "CHANNELS": "2", "RATE": "48000"}


def test_controls_are_those_of_the_file(card):
    listing = programs.run("amixer", "-c", card.name, "controls").stdout
    names = re.findall(r"iface=MIXER,name='(.*)'", listing)
    assert names == ["First Playback Volume", "Second Playback Switch"]


@pytest.mark.core
def test_all_substreams_play_at_once(card, tmp_path):
    """Four streams of one card in different formats; none disturbs another."""
    layouts = [Layout(), Layout("U8", 1, 44100), Layout()]
    played = [sounds.noise(layout, 48000 // 480 * 480, seed) for seed, layout in enumerate(layouts, 1)]
    recorder = alsa_tools.Recorder(f"{card.pcm},0", Layout())
    places = ["0,0", "0,1", "1,0"]
    players = [
        alsa_tools.Player(f"{card.pcm},{place}", sound, period=480, buffer=1920)
        for place, sound in zip(places, played, strict=True)
    ]
    for player in players:
        player.finish()
    silence = recorder.finish()
    card.destroy()
    assert not silence.data.strip(b"\x00")
    for name, sound in zip(["first.wav", "first-2.wav", "second.wav"], played, strict=True):
        difference = alsa_tools.difference(sound.data, sounds.read_wav(tmp_path / name)[1], sound.layout.frame_bytes)
        assert not difference, f"{name}: {difference}"


@pytest.mark.skipif(alsa_tools.PLAYS_ON, reason="what this kernel's driver plays on lies behind the sound")
def test_channels_go_where_the_map_says(card, tmp_path):
    """aplay knows which channel is which: it exchanges left and right for the second device only."""
    sound = sounds.noise(Layout(), 4800)
    (tmp_path / "sound.raw").write_bytes(sound.data)
    options = [*sound.layout.alsa_options, "--samples", sound.frames, "--period-size", 480, "--chmap", "FL,FR"]
    for device in (0, 1):
        programs.run("aplay", "-D", f"{card.pcm},{device}", *options, tmp_path / "sound.raw")
    card.destroy()
    exchanged = b"".join(
        sound.data[frame + 2 : frame + 4] + sound.data[frame : frame + 2] for frame in range(0, len(sound.data), 4)
    )
    assert not alsa_tools.difference(sound.data, sounds.read_wav(tmp_path / "first.wav")[1], 4)
    assert not alsa_tools.difference(exchanged, sounds.read_wav(tmp_path / "second.wav")[1], 4)


@pytest.mark.core
def test_the_example_loop_carries_two_sounds_at_once(make_card, tmp_path):
    """Each playback substream is heard on the capture substream of its number, and nowhere else."""
    shutil.copy(EXAMPLES / "loop.toml", tmp_path)
    card = make_card("music", "--card", tmp_path / "loop.toml")
    played = [sounds.noise(Layout(), 24000, seed) for seed in (1, 2)]
    recorders = [alsa_tools.Recorder(f"{card.pcm},0,{sub}", Layout(), period=480, buffer=1920) for sub in (0, 1)]
    players = [
        alsa_tools.Player(f"{card.pcm},0,{sub}", sound, period=480, buffer=1920) for sub, sound in enumerate(played)
    ]
    for player in players:
        player.finish()
    for recorder, sound in zip(recorders, played, strict=True):
        result = recorder.compare(sound)
        assert result.exact, str(result)


def test_a_wrong_file_ends_the_program_with_its_line(tmp_path):
    (tmp_path / "card.toml").write_text(CARD.replace('host = "null"', 'host = "tape"'))
    command = [programs.path_of("vhost-user-sound"), "--check", "--card", tmp_path / "card.toml"]
    result = programs.run(*command, check=False)
    assert result.returncode == 1
    assert "card.toml:10: unknown variant `tape`" in result.stderr
