"""A FastAPI app that looks at nothing a client says in the first HANDLER_AFTER_MS (default 30) after its opening.

As an app does that asks a database who this is, and drops what was received meanwhile. Then an echo at /ws.
STARTUP_SECONDS (default 3) is the length of its lifespan start-up. Run by uvicorn.
"""

import asyncio
import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect


@asynccontextmanager
async def lifespan(_app):
    # tidy: allow-sleep this is the slow start-up itself
    await asyncio.sleep(float(os.environ.get("STARTUP_SECONDS", "3")))
    yield


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def echo(socket: WebSocket):
    await socket.accept()
    loop = asyncio.get_running_loop()
    handler_at = loop.time() + float(os.environ.get("HANDLER_AFTER_MS", "30")) / 1000
    try:
        while True:
            message = await socket.receive_text()
            if loop.time() >= handler_at:
                await socket.send_text(message)
    except WebSocketDisconnect:
        pass
