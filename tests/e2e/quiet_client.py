"""A client of Python `websockets` that says nothing by itself: `quiet_client.py URL`.

Its own pings are off; pings it answers, as the library does. Each line of standard input is sent as a message, and its echo is
printed as {"event":"echo","text":…}. First {"event":"opened"}; after the end of standard input a close with 1000, and
{"event":"result","code":…}. A close by the other side ends it too.
"""

import asyncio
import json
import sys

from websockets import connect
from websockets.exceptions import ConnectionClosed


def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


async def main(url):
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with connect(url, ping_interval=None, proxy=None) as socket:
        say("opened")
        try:
            while line := (await lines.readline()).decode().strip():
                await socket.send(line)
                say("echo", text=await socket.recv())
            await socket.close(1000)
        except ConnectionClosed:
            pass
        say("result", code=socket.close_code)


asyncio.run(main(sys.argv[1]))
