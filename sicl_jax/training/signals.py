"""Ctrl-C and SIGTERM: the first asks a run to stop where it can go on from, the second ends it."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest(contextlib.AbstractContextManager):
    """Listens for signals while the block runs.

    Signals are read by a thread of their own, since Python calls a handler only between two
    operations of the main thread, which may be inside a compiled program or a clustering for long.

    Args:
        say: Told that the signal has been heard.
    """

    def __init__(self, say: Callable[[str], None] = print):
        self._say = say
        self._number = 0
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is not threading.main_thread():
            return self  # Only the main thread may listen; a library's caller has its own ways.
        reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, lambda *_: None)
        self._descriptor_before = signal.set_wakeup_fd(self._writer.fileno())
        threading.Thread(target=self._listen, args=(reader,), daemon=True).start()
        return self

    def __exit__(self, *_):
        if not self._before:
            return
        signal.set_wakeup_fd(self._descriptor_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._writer.close()

    def _listen(self, reader: socket.socket) -> None:
        with reader:
            while received := reader.recv(1):
                if received[0] not in _SIGNALS:
                    continue
                if self._number:
                    os._exit(128 + received[0])
                self._number = received[0]
                name = signal.Signals(self._number).name
                self._say(f"{name}: saving after the current call; once more to stop at once")

    def number(self) -> int:
        """The signal that asked to stop, or 0; the same on all processes of a run.

        Where there are several, all have to call it.
        """
        if jax.process_count() == 1:
            return self._number
        return int(np.max(multihost_utils.process_allgather(np.int32(self._number))))
