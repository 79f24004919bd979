"""An aiohttp server: its start-up hooks end before it listens.

    greenroom audit --url ws://127.0.0.1:{port}/ws --expect echo -- python examples/zoo/aiohttp_good.py
"""

import asyncio
import os

from aiohttp import WSMsgType, web


async def start(_app):
    # tidy: allow-sleep this is the slow start-up itself
    await asyncio.sleep(0.6)


async def echo(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


app = web.Application()
app.on_startup.append(start)
app.router.add_get("/ws", echo)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
