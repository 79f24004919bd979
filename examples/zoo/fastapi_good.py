"""A FastAPI server as most are: its start-up ends before uvicorn listens. Early clients are refused by the kernel.

    greenroom audit --url ws://127.0.0.1:{port}/ws --expect echo -- uvicorn --app-dir examples/zoo fastapi_good:app --port {port}
"""

import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect


@asynccontextmanager
async def lifespan(_app):
    # tidy: allow-sleep this is the slow start-up itself
    await asyncio.sleep(0.6)
    yield


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def echo(socket: WebSocket):
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass
