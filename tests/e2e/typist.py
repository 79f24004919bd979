"""Reads keys from its terminal in raw mode, where Ctrl-C is a byte and no signal, and says each as `key N`.

`q` sends SIGINT to its own process group, which it ignores itself, and says `sent`.
"""

import os
import signal
import sys
import tty

signal.signal(signal.SIGINT, signal.SIG_IGN)
tty.setraw(sys.stdin.fileno())
print("up", end="\r\n", flush=True)
while True:
    key = os.read(sys.stdin.fileno(), 1)
    if not key:
        break
    if key == b"q":
        os.killpg(0, signal.SIGINT)
        print("sent", end="\r\n", flush=True)
    else:
        print("key", key[0], end="\r\n", flush=True)
