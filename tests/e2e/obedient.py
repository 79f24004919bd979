"""An echo server that ends a connection when its client's message says so.

`close` closes it with 4001, `drop` cuts it without a word, anything else comes back. A plain request is answered with `ok`.
PORT: where it listens, at once. SIGUSR2 sends READY=1: greenroom hands it on to its child. It says `listening` before.
"""

import asyncio
import os
import signal
import socket

from websockets.asyncio.server import serve


def notify(text):
    path = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)


def plain(connection, request):
    if "Upgrade" not in request.headers:
        return connection.respond(200, "ok")
    return None


async def obey(connection):
    async for message in connection:
        if message == "close":
            await connection.close(4001, "as you say")
        elif message == "drop":
            connection.transport.abort()
        else:
            await connection.send(message)


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, notify, "READY=1")
    # No deflate: what is sent is what is counted.
    options = {"process_request": plain, "compression": None, "ping_interval": None}
    async with serve(obey, "127.0.0.1", int(os.environ["PORT"]), **options):
        print("listening", flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
