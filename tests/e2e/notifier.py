"""An echo server that says of itself what its test wants, over sd_notify.

PORT: where to listen, at once. READY: `now` (default) sends READY=1 when it listens, `later` waits for SIGUSR2.
SIGUSR1 sends STOPPING=1, SIGUSR2 READY=1: greenroom hands both on to its child. INT: what SIGINT does: `ignore` nothing,
a number ends it at once with that code. It says `int` when it gets one. LOG: see ledger.py.
"""

import asyncio
import os
import signal
import socket

from websockets.asyncio.server import serve

from ledger import log


def notify(text):
    path = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)


def interrupted(does):
    print("int", flush=True)
    if does != "ignore":
        os._exit(int(does))


def opening(_connection, request):
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    log("open", headers, request.path)


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def main():
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, notify, "STOPPING=1")
    loop.add_signal_handler(signal.SIGUSR2, notify, "READY=1")
    if "INT" in os.environ:
        loop.add_signal_handler(signal.SIGINT, interrupted, os.environ["INT"])
    # No deflate: 10,000 zlib contexts are not what is tested.
    options = {"process_request": opening, "compression": None, "ping_interval": None}
    async with serve(echo, "127.0.0.1", int(os.environ["PORT"]), **options):
        print("listening", flush=True)
        if os.environ.get("READY", "now") == "now":
            notify("READY=1")
        await loop.create_future()


asyncio.run(main())
