"""A FastAPI app that starts slowly: an echo at /ws, a handshake that always fails at /always500.

STARTUP_SECONDS (default 3) is the length of its lifespan start-up. LOG: see ledger.py.
Run by uvicorn or gunicorn with this folder as the application folder.
"""

import asyncio
import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocketDisconnect

from ledger import log


@asynccontextmanager
async def lifespan(_app):
    # tidy: allow-sleep this is the slow start-up itself
    await asyncio.sleep(float(os.environ.get("STARTUP_SECONDS", "3")))
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health():
    return {"ready": True}


@app.websocket("/ws")
async def echo(socket: WebSocket):
    # Logged before the 101: the order of these lines is the order in which the heads came.
    log("open", socket.headers, "/ws")
    await socket.accept()
    code = 1006
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                code = message.get("code", 1005)
                break
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect as gone:
        code = gone.code
    finally:
        log("close", socket.headers, "/ws", code)


@app.websocket("/always500")
async def always500(socket: WebSocket):
    log("reject", socket.headers, "/always500", 500)
    await socket.send_denial_response(PlainTextResponse("this path always fails\n", status_code=500))
