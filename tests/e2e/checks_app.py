"""What `http` and `websocket` checks ask, for uvicorn.

PHASES names a file: what stands in it is the last finished phase, nothing none. /startup tells it as JSON,
with 503 until it is `complete`; /plain as text, in chunks; /endless never ends; /moved redirects; /ws is an echo.
"""

import asyncio
import os
from pathlib import Path

from fastapi import FastAPI, WebSocket
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse

app = FastAPI()


def phase():
    return Path(os.environ["PHASES"]).read_text() or None


@app.get("/startup")
async def startup():
    finished = phase()
    return JSONResponse({"start": {"finished": finished}}, 200 if finished == "complete" else 503)


@app.get("/plain")
async def plain():
    async def words():
        yield "finished: "
        yield phase() or "none"

    return StreamingResponse(words(), media_type="text/plain")


@app.get("/endless")
async def endless():
    async def noise():
        while True:
            yield "x" * 4096
            await asyncio.sleep(0)  # tidy: allow-sleep of no length: others must get their turn when the client is gone

    return StreamingResponse(noise(), media_type="text/plain")


@app.get("/moved")
async def moved():
    return RedirectResponse("/startup", 307)


@app.websocket("/ws")
async def echo(socket: WebSocket):
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
