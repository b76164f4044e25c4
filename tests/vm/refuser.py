# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A vhost-user device process of a sound card that does all but one thing as it is asked."""

import socket
import struct
import threading

GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, GET_CONFIG = 1, 15, 17, 24
SET_MEM_TABLE = 5
REPLY, NEED_REPLY = 0x5, 0x8
# VERSION_1, PROTOCOL_FEATURES, EVENT_IDX, INDIRECT_DESC, VIRTIO_SND_F_CTLS.
FEATURES = 1 << 32 | 1 << 30 | 1 << 29 | 1 << 28 | 1 << 0
# MQ, REPLY_ACK, CONFIG.
PROTOCOL_FEATURES = 1 << 0 | 1 << 3 | 1 << 9
QUEUES = 4
HEADER = struct.Struct("<III")


class Refuser:
    """Listens at a socket's path until it is closed."""

    def __init__(self, path, config, refuses=SET_MEM_TABLE):
        self.config, self.refuses = config, refuses
        self.refusals = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                while self._talk(connection):
                    pass

    def _talk(self, connection):
        head = connection.recv(HEADER.size, socket.MSG_WAITALL)  # what files come with it are not taken
        if len(head) < HEADER.size:
            return False
        request, flags, size = HEADER.unpack(head)
        body = connection.recv(size, socket.MSG_WAITALL) if size else b""
        answer = self._answer(request, body)
        if answer is None and flags & NEED_REPLY:
            self.refusals += request == self.refuses
            answer = struct.pack("<Q", request == self.refuses)
        if answer is not None:
            connection.sendall(HEADER.pack(request, REPLY, len(answer)) + answer)
        return True

    def _answer(self, request, body):
        if request == GET_CONFIG:
            return body[:12] + self.config.ljust(len(body) - 12, b"\0")[: len(body) - 12]
        numbers = {GET_FEATURES: FEATURES, GET_PROTOCOL_FEATURES: PROTOCOL_FEATURES, GET_QUEUE_NUM: QUEUES}
        return struct.pack("<Q", numbers[request]) if request in numbers else None
