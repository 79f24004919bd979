"""A FastAPI site on uvicorn as people have it: docs page, upload, server-sent events and a WebSocket on one port.

STARTUP_SECONDS (default 1.5) is the length of its lifespan start-up. LOG: see ledger.py.
The docs page takes Swagger UI from NODE_PATH, so that no test asks the network for it.

/events sends the next event only when /seen has told that the one before was seen: a proxy that gathers
events would wait for ever.
"""

import asyncio
import hashlib
import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, UploadFile, WebSocket
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

from ledger import log

EVENTS = 5


@asynccontextmanager
async def lifespan(_app):
    # tidy: allow-sleep this is the slow start-up itself
    await asyncio.sleep(float(os.environ.get("STARTUP_SECONDS", "1.5")))
    yield


app = FastAPI(lifespan=lifespan, title="Site", docs_url=None, redoc_url=None)
app.mount("/swagger", StaticFiles(directory=Path(os.environ["NODE_PATH"]) / "swagger-ui-dist"))
seen = {}


@app.get("/docs", include_in_schema=False)
async def docs():
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Site docs",
        swagger_js_url="/swagger/swagger-ui-bundle.js",
        swagger_css_url="/swagger/swagger-ui.css",
        swagger_favicon_url="/swagger/favicon-32x32.png",
    )


@app.get("/items/{number}")
async def item(number: int):
    return {"number": number}


@app.post("/upload")
async def upload(file: UploadFile):
    digest, size = hashlib.sha256(), 0
    while piece := await file.read(1 << 20):
        digest.update(piece)
        size += len(piece)
    return {"sha256": digest.hexdigest(), "bytes": size, "name": file.filename}


@app.get("/events")
async def events(who: str, request: Request):
    async def lines():
        try:
            for number in range(EVENTS):
                told = seen[who] = asyncio.Event()
                yield f"id: {number}\ndata: {json.dumps({'number': number})}\n\n"
                await told.wait()
            yield "event: over\ndata: {}\n\n"
        finally:
            log("events-end", request.headers, "/events")

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@app.post("/seen", status_code=204)
async def tell(who: str):
    seen[who].set()


@app.websocket("/ws")
async def echo(socket: WebSocket):
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass
