"""A FastAPI server that starts its work in the background and takes clients meanwhile: until the handler is there,
what they send is read and thrown away. Nobody is refused, nothing is closed, and no log says a word.

    greenroom audit --url ws://127.0.0.1:{port}/ws --expect echo -- uvicorn --app-dir examples/zoo fastapi_late_handler:app --port {port}
"""

import asyncio
from contextlib import asynccontextmanager

from fastapi import FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

handler = None


async def echo(socket: WebSocket, text: str):
    await socket.send_text(text)


async def start():
    global handler
    # tidy: allow-sleep models that load, caches that warm up
    await asyncio.sleep(0.6)
    handler = echo


@asynccontextmanager
async def lifespan(_app):
    starting = asyncio.create_task(start())
    yield
    starting.cancel()


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws")
async def serve(socket: WebSocket):
    await socket.accept()
    try:
        while True:
            text = await socket.receive_text()
            if handler is not None:
                await handler(socket, text)
    except WebSocketDisconnect:
        pass
