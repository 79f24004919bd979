"""Writes what a backend saw, one JSON line per event, to the file named by LOG.

The file is opened O_APPEND and each line is one write, so that several workers
can share it. Without LOG nothing is written. Times are CLOCK_MONOTONIC, the
clock of every other process on the machine.
"""

import json
import os
import time

_FD = None


def _fd():
    # Opened at the first line, not at import: gunicorn imports before it forks and changes user.
    global _FD
    if _FD is None:
        _FD = os.open(os.environ["LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    return _FD


def log(event, headers, path, code=None):
    """`event` is open, reject or close; `headers` maps lower-case names to values."""
    if not os.environ.get("LOG"):
        return
    line = {
        "event": event,
        "at": time.monotonic_ns(),
        "session": headers.get("greenroom-session"),
        "attempt": headers.get("greenroom-attempt"),
        "path": path,
        "pid": os.getpid(),
    }
    if code is not None:
        line["code"] = code
    os.write(_fd(), (json.dumps(line) + "\n").encode())
