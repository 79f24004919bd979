"""A server that listens, and whose start-up waits for a client that waits for its start-up: nobody is ever answered.

    greenroom audit --expect echo -- python examples/zoo/deadlock.py
"""

import asyncio
import os

from websockets.asyncio.server import serve

ready = asyncio.Event()
asked = asyncio.Event()


async def wait(_connection, _request):
    await ready.wait()
    asked.set()


async def main():
    async with serve(lambda socket: socket.wait_closed(), "127.0.0.1", int(os.environ["PORT"]), process_request=wait):
        await asked.wait()
        ready.set()


asyncio.run(main())
