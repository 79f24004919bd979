"""A server that listens at once and closes with 1013, "try again later", until it is ready: kinder than 1011, and as
early. Its close comes 20 ms after the handshake, so that a proxy which looks only at the 101 lets clients in.

    greenroom audit --expect echo -- python examples/zoo/restarting.py
"""

import asyncio
import os

from websockets.asyncio.server import serve

is_ready = False


async def echo(socket):
    if not is_ready:
        # tidy: allow-sleep it asks a database that is not there yet
        await asyncio.sleep(0.02)
        return await socket.close(1013, "try again later")
    async for message in socket:
        await socket.send(message)


async def main():
    global is_ready
    async with serve(echo, "127.0.0.1", int(os.environ["PORT"])) as server:
        # tidy: allow-sleep this is the slow start-up itself
        await asyncio.sleep(0.9)
        is_ready = True
        await server.serve_forever()


asyncio.run(main())
