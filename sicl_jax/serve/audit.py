"""The audit log: who asked for what and when, a JSON object a line.

It holds file names and digests of uploads, never pictures or tokens. What cannot be noted is not
done: a request whose line cannot be written is refused.
"""

import datetime
import json
import os
import pathlib
import threading
from typing import Any

from sicl_jax.errors import UserError
from sicl_jax.serve.problems import ApiError


class AuditLog:
    """Appends lines to a file that only its owner may read.

    Args:
        file: The log; None for no log.

    Raises:
        UserError: The file cannot be written.
    """

    def __init__(self, file: pathlib.Path | None):
        self.file = file
        self._lock = threading.Lock()
        self._descriptor = None
        if file is not None:
            try:
                how = os.O_WRONLY | os.O_APPEND | os.O_CREAT
                self._descriptor = os.open(file, how, 0o600)
            except OSError as error:
                raise UserError(
                    f"--audit {file}: cannot be written ({error.strerror}); name another file, or "
                    "'off'"
                ) from error

    def note(self, who: str, address: str, action: str, **what: Any) -> None:
        """Writes one line; called before the answer is given.

        Raises:
            ApiError: It cannot be written.
        """
        if self._descriptor is None:
            return
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "who": who, "from": address, "action": action, **what}
        data = (json.dumps(line) + "\n").encode()
        try:
            with self._lock:
                if os.write(self._descriptor, data) != len(data):
                    raise OSError(28, os.strerror(28))
        except OSError as error:
            raise ApiError(503, f"the audit log cannot be written ({error.strerror})") from error
