#!/usr/bin/env python3
"""Counts the instructions that greenroom spends on one relayed message, in user space, under valgrind's callgrind.

    bench/instructions.py target/release/greenroom [ANOTHER/greenroom …]

A client sends a message, its backend sends it back, and so on: one message each way, each by itself. The count of a run of
MORE rounds without that of one of FEW is that of the rounds alone, divided by two messages. Programs are measured
in the same run, one after the other; instructions do not depend on what else the machine does, wake-ups do a little: so it is
the least of several runs. Needs valgrind (`apt-get install valgrind`).
"""

import base64
import hashlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading

FEW, MORE, RUNS = 500, 4500, 3
KEY = base64.b64encode(b"sixteen bytes ok")
FRAME = b"\x82\xfe\x00\x80" + bytes(4) + b"x" * 128  # a client's, its mask zero
ECHO = b"\x82\x7e\x00\x80" + b"x" * 128


def head(connection):
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += connection.recv(1)
    return data


def exactly(connection, count):
    while count:
        read = len(connection.recv(count))
        if not read:
            raise EOFError
        count -= read


def backend(listener):
    while True:
        connection, _ = listener.accept()
        request = head(connection)
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", request).group(1)
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        try:
            while True:
                exactly(connection, len(FRAME))
                connection.sendall(ECHO)
        except (EOFError, OSError):
            pass


def instructions(program, rounds):
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=backend, args=(listener,), daemon=True).start()
    at = "127.0.0.1:%d" % listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "out")
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + out, program, "serve"]
        command += ["--listen", "127.0.0.1:0", "--backend", at, "--ready", "listen", "--log-format", "json"]
        environment = dict(os.environ, XDG_RUNTIME_DIR=folder)
        greenroom = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)
        for line in greenroom.stderr:
            if found := re.search(rb'"event":"listening","address":"127.0.0.1:(\d+)"', line):
                port = int(found.group(1))
                break
        threading.Thread(target=greenroom.stderr.read, daemon=True).start()
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n"
        )
        assert b" 101 " in head(client)
        for _ in range(rounds):
            client.sendall(FRAME)
            exactly(client, len(ECHO))
        client.close()
        greenroom.terminate()
        greenroom.wait()
        with open(out, encoding="utf-8") as file:
            return int(re.search(r"^(?:totals|summary): (\d+)", file.read(), re.M).group(1))


def main():
    first = None
    for program in sys.argv[1:]:
        few = min(instructions(program, FEW) for _ in range(RUNS))
        more = min(instructions(program, MORE) for _ in range(RUNS))
        each = (more - few) / (MORE - FEW) / 2
        first = first or each
        print(f"{program}: {each:.0f} instructions per message ({(each / first - 1) * 100:+.1f} %)", flush=True)


if __name__ == "__main__":
    main()
