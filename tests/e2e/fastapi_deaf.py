"""A FastAPI app that is deaf while it starts: it accepts at once, and loses all that is said for STARTUP_SECONDS (default 1).

Then it says READY=1 by sd_notify, and is an echo at /ws. Run by uvicorn.
"""

import asyncio
import os
import socket as sockets
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

ready = asyncio.Event()


def say_ready():
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM) as out:
            out.sendto(b"READY=1", "\0" + path[1:] if path.startswith("@") else path)


async def start():
    # tidy: allow-sleep this is the slow start-up itself
    await asyncio.sleep(float(os.environ.get("STARTUP_SECONDS", "1")))
    ready.set()
    say_ready()


@asynccontextmanager
async def lifespan(_app):
    starting = asyncio.create_task(start())
    yield
    starting.cancel()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def echo(socket: WebSocket):
    await socket.accept()
    try:
        while True:
            message = await socket.receive_text()
            if ready.is_set():
                await socket.send_text(message)
    except WebSocketDisconnect:
        pass
