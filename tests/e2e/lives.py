"""An echo server whose first life goes wrong, and whose next ones are well. Plain requests get `hello`.

PORT. LIVES: a file; it is there once a life has begun. FIRST: what the first life does: `overrun` never finishes its start,
`errno` says that `init` is finished, and ERRNO=5, `hang` serves and says READY=1, but gives no sign of life; any other word: it is well. Who is well says
READY=1 and gives a sign of life as often as WATCHDOG_USEC asks for. LOG: see ledger.py.
"""

import asyncio
import http
import os
import socket
from pathlib import Path

from websockets.asyncio.server import serve

from ledger import log


def notify(text):
    path = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)


def opening(connection, request):
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    log("open", headers, request.path)
    if "upgrade" not in headers:
        return connection.respond(http.HTTPStatus.OK, "hello\n")


async def echo(connection):
    async for message in connection:
        await connection.send(message)


async def signs_of_life():
    while True:
        notify("WATCHDOG=1")
        # tidy: allow-sleep half of the time that the watchdog gives, as sd_watchdog_enabled(3) has it
        await asyncio.sleep(int(os.environ["WATCHDOG_USEC"]) / 2e6)


async def main():
    lives = Path(os.environ["LIVES"])
    first = "well" if lives.exists() else os.environ["FIRST"]
    lives.touch()
    if first == "errno":
        notify("X_GREENROOM_PHASE=init\nERRNO=5")
    if first in ("errno", "overrun"):
        await asyncio.Event().wait()
    async with serve(echo, "127.0.0.1", int(os.environ["PORT"]), process_request=opening, ping_interval=None):
        notify("READY=1")
        if first != "hang" and "WATCHDOG_USEC" in os.environ:
            await signs_of_life()
        await asyncio.Event().wait()


asyncio.run(main())
