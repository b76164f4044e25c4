# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""Cards whose sound goes into GStreamer pipelines, and comes from them, every bit of it."""

import glob
import pathlib

import alsa_tools
import guest_memory
import pytest
import sounds
from sounds import Layout
from wave_compare import compare

PLUGINS = ["app", "audioconvert", "audiotestsrc", "coreelements", "wavenc", "wavparse"]
LAYOUTS = [Layout(), Layout("S32_LE", 1, 44100), Layout("U8", 2, 48000)]


@pytest.fixture(autouse=True)
def plugins(monkeypatch, tmp_path):
    """GStreamer's elements run from memory, and are looked at by the process itself."""
    folder = pathlib.Path(glob.glob("/usr/lib/*/gstreamer-1.0")[0])
    guest_memory.add([str(folder / f"libgst{name}.so") for name in PLUGINS])
    monkeypatch.setenv("GST_REGISTRY_FORK", "no")
    monkeypatch.setenv("GST_REGISTRY", str(tmp_path / "registry"))


def name_of(layout):
    return f"{layout.format}-{layout.channels}-{layout.rate}"


@pytest.mark.parametrize("layout", LAYOUTS, ids=name_of)
def test_a_file_sink_holds_exactly_what_was_played(make_card, tmp_path, layout):
    out = tmp_path / "out.wav"
    pipeline = f"wavenc ! filesink location={out}"
    card = make_card("music", "--host", "gstreamer", "--playback-pipeline", pipeline)
    sound = sounds.noise(layout, 100 * 480)
    alsa_tools.play(card.pcm, sound, period=480, buffer=1920)
    card.destroy()
    written, data = sounds.read_wav(out)
    assert written[1:] == (layout.channels, layout.rate)
    assert not alsa_tools.difference(sound.data, data, layout.frame_bytes)


@pytest.mark.parametrize("layout", LAYOUTS, ids=name_of)
def test_a_file_source_arrives_whole(make_card, tmp_path, layout):
    sound = sounds.noise(layout, 100 * 480 + 100)
    sounds.write_wav(tmp_path / "in.wav", sound)
    pipeline = f"filesrc location={tmp_path / 'in.wav'} ! wavparse"
    card = make_card("music", "--host", "gstreamer", "--capture-pipeline", pipeline)
    recorder = alsa_tools.Recorder(card.pcm, layout, period=480, buffer=1920)
    recorder.wait_for(sound.frames)
    recorded = recorder.finish()
    result = compare(sound.data, recorded.data, layout.frame_bytes, layout.silent_byte)
    assert result.exact, str(result)
    assert result.start == 0, "the recording starts before the captured file"


def test_both_at_once(make_card, tmp_path):
    """Each direction has a pipeline of its own; the converter changes nothing that need not be."""
    out, back = (sounds.noise(Layout(), 48000, seed) for seed in (3, 4))
    sounds.write_wav(tmp_path / "in.wav", back)
    pipelines = (f"audioconvert ! wavenc ! filesink location={tmp_path / 'out.wav'}",
                 f"filesrc location={tmp_path / 'in.wav'} ! wavparse ! audioconvert")
    card = make_card("music", "--host", "gstreamer", "--playback-pipeline", pipelines[0],
                     "--capture-pipeline", pipelines[1])
    recorder = alsa_tools.Recorder(card.pcm, back.layout, period=480, buffer=1920)
    alsa_tools.play(card.pcm, out, period=480, buffer=1920)
    recorder.wait_for(back.frames)
    captured = recorder.compare(back)
    card.destroy()
    assert captured.exact, f"capture: {captured}"
    assert sounds.read_wav(tmp_path / "out.wav")[1] == out.data


def test_a_sink_that_cannot_be_used_stops_nobody(make_card, tmp_path):
    """The application plays in silence; the log says why, once."""
    pipeline = f"filesink location={tmp_path / 'missing' / 'out.raw'}"
    card = make_card("music", "--host", "gstreamer", "--playback-pipeline", pipeline)
    alsa_tools.play(card.pcm, sounds.noise(Layout(), 3 * 48000), period=480, buffer=1920)
    log = card.device.output()
    assert log.count("goes on in silence until it plays again") == 1, log
    assert "missing/out.raw" in log and "panicked" not in log, log
