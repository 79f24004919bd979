"""A WebSocket client cheap enough to run 10,000 of in one process; see clients.py.

The handshake and the frames are written by hand. It knows unfragmented messages up to 64 KiB, Ping and
Close: what an echo needs. Anything else from the server is an error, not a guess.
"""

import asyncio
import base64
import hashlib
import os
import struct

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Refused(Exception):
    """The server answered the handshake with something other than 101."""

    def __init__(self, status):
        super().__init__(f"HTTP {status}")
        self.status = status


class Closed(Exception):
    """The server closed; `args[0]` is its code."""


def frame(opcode, payload):
    mask = os.urandom(4)
    size = len(payload)
    head = bytes([0x80 | opcode, 0x80 | size]) if size < 126 else struct.pack(">BBH", 0x80 | opcode, 0xFE, size)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


class Raw:
    """One client."""

    def __init__(self, args, path, connects):
        self.args, self.path, self.connects = args, path, connects
        self.code = None

    async def open(self):
        async with asyncio.timeout(self.args.open_timeout):
            async with self.connects:
                if self.args.unix:
                    self.reader, self.writer = await asyncio.open_unix_connection(self.args.unix)
                else:
                    self.reader, self.writer = await asyncio.open_connection(self.args.host, self.args.port)
            try:
                await self.handshake()
            except BaseException:
                self.writer.transport.abort()
                raise

    async def handshake(self):
        key = base64.b64encode(os.urandom(16))
        self.writer.write(
            f"GET {self.path} HTTP/1.1\r\nHost: {self.args.host}:{self.args.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key.decode()}\r\n\r\n".encode()
        )
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = int(lines[0].split()[1])
        if status != 101:
            raise Refused(status)
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
        expected = base64.b64encode(hashlib.sha1(key + GUID).digest())
        if fields.get(b"sec-websocket-accept") != expected:
            raise ValueError("101 with a wrong Sec-WebSocket-Accept")

    async def receive(self):
        """The next data message as (opcode, payload); raises Closed at a Close or the end."""
        while True:
            try:
                first, second = await self.reader.readexactly(2)
                size = second & 0x7F
                if size == 126:
                    (size,) = struct.unpack(">H", await self.reader.readexactly(2))
                payload = await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.code = self.code or 1006
                raise Closed(self.code) from None
            opcode = first & 0x0F
            if first & 0xF0 != 0x80 or second & 0x80 or second == 127:
                raise ValueError(f"frame this client does not know: {first:#x} {second:#x}")
            if opcode == PING:
                self.writer.write(frame(PONG, payload))
            elif opcode == CLOSE:
                self.code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                raise Closed(self.code)
            elif opcode != PONG:
                return opcode, payload

    async def echo(self, text, binary):
        self.writer.write(frame(TEXT, text.encode()) + frame(BINARY, binary))
        first, second = await self.receive(), await self.receive()
        return first == (TEXT, text.encode()) and second == (BINARY, binary)

    async def wait_closed(self):
        try:
            while True:
                await self.receive()
        except Closed:
            return

    async def close(self):
        """Closes with 1000, or answers the server's Close; returns the code that the server said."""
        try:
            if self.code != 1006:
                self.writer.write(frame(CLOSE, struct.pack(">H", 1000 if self.code is None else self.code)))
            if self.code is None:
                async with asyncio.timeout(10):
                    await self.wait_closed()
            return self.code
        finally:
            self.writer.close()
