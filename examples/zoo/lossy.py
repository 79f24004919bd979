"""A server that loses the first message of one client in 50, for ever: no race of its start, and found all the same.

    greenroom audit --expect echo -- python examples/zoo/lossy.py
"""

import asyncio
import os

from websockets.asyncio.server import serve

clients = 0


async def echo(socket):
    global clients
    clients += 1
    loses = clients % 50 == 0
    async for message in socket:
        if loses:
            loses = False
        else:
            await socket.send(message)


async def main():
    # tidy: allow-sleep this is the slow start-up itself
    await asyncio.sleep(0.5)
    async with serve(echo, "127.0.0.1", int(os.environ["PORT"])) as server:
        await server.serve_forever()


asyncio.run(main())
