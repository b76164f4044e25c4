# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A PCM as an application uses it through libasound: what aplay and arecord do not do."""

import ctypes
import errno

from sounds import Layout

PLAYBACK, CAPTURE = 0, 1
MMAP_INTERLEAVED, RW_INTERLEAVED = 0, 3
STATES = ["open", "setup", "prepared", "running", "xrun", "draining", "paused", "suspended", "disconnected"]

_alsa = ctypes.CDLL("libasound.so.2")
for _name in ("writei", "mmap_writei", "readi", "avail", "avail_update", "rewind", "forward", "rewindable"):
    getattr(_alsa, f"snd_pcm_{_name}").restype = ctypes.c_long
for _name in ("writei", "mmap_writei", "readi"):
    getattr(_alsa, f"snd_pcm_{_name}").argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ulong]
for _name in ("rewind", "forward"):
    getattr(_alsa, f"snd_pcm_{_name}").argtypes = [ctypes.c_void_p, ctypes.c_ulong]


class PcmError(OSError):
    """What ALSA answered."""


class Pcm:
    """An open PCM, S16 stereo at 48 kHz. It starts when it is told to, or when it is full."""

    def __init__(self, device, period, buffer, mmap=False, direction=PLAYBACK):
        self.layout = Layout()
        self._transfer = "mmap_writei" if mmap else "writei"
        self._pcm = ctypes.c_void_p()
        self._check("open", _alsa.snd_pcm_open(ctypes.byref(self._pcm), device.encode(), direction, 0))
        try:
            self._set_hardware(period, buffer, MMAP_INTERLEAVED if mmap else RW_INTERLEAVED)
            self._set_software(buffer)
        except PcmError:
            self.close()
            raise

    def _set_hardware(self, period, buffer, access):
        params = self._parameters("hw")
        self._call("hw_params_any", params)
        self._call("hw_params_set_access", params, access)
        self._call("hw_params_set_format", params, _alsa.snd_pcm_format_value(self.layout.format.encode()))
        self._call("hw_params_set_channels", params, self.layout.channels)
        self._call("hw_params_set_rate", params, self.layout.rate, 0)
        self._call("hw_params_set_period_size", params, ctypes.c_ulong(period), 0)
        self._call("hw_params_set_buffer_size", params, ctypes.c_ulong(buffer))
        self._call("hw_params", params)

    def _set_software(self, start_threshold):
        params = self._parameters("sw")
        self._call("sw_params_current", params)
        self._call("sw_params_set_start_threshold", params, ctypes.c_ulong(start_threshold))
        self._call("sw_params", params)

    @staticmethod
    def _parameters(kind):
        return ctypes.create_string_buffer(getattr(_alsa, f"snd_pcm_{kind}_params_sizeof")())

    @staticmethod
    def _check(call, result):
        if result < 0:
            raise PcmError(-result, f"snd_pcm_{call}: {errno.errorcode.get(-result, -result)}")
        return result

    def _call(self, call, *arguments):
        return self._check(call, getattr(_alsa, f"snd_pcm_{call}")(self._pcm, *arguments))

    def write(self, data):
        """Writes whole frames, and waits until all of them are in the buffer."""
        frame_bytes = self.layout.frame_bytes
        while data:
            written = self._call(self._transfer, bytes(data), len(data) // frame_bytes)
            data = data[written * frame_bytes :]

    def read(self, frames):
        data = ctypes.create_string_buffer(frames * self.layout.frame_bytes)
        got = self._call("readi", data, frames)
        return data.raw[: got * self.layout.frame_bytes]

    def start(self):
        self._call("start")

    def prepare(self):
        self._call("prepare")

    def pause(self, on):
        self._call("pause", int(on))

    def drop(self):
        self._call("drop")

    def drain(self):
        """Returns 0, or the negative error."""
        return _alsa.snd_pcm_drain(self._pcm)

    def rewind(self, frames):
        return self._call("rewind", frames)

    def forward(self, frames):
        return self._call("forward", frames)

    def avail_delay(self):
        """Both at the same time."""
        avail, delay = ctypes.c_long(), ctypes.c_long()
        self._call("avail_delay", ctypes.byref(avail), ctypes.byref(delay))
        return avail.value, delay.value

    def state(self):
        return STATES[self._call("state")]

    def close(self):
        if self._pcm:
            _alsa.snd_pcm_close(self._pcm)
            self._pcm = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
