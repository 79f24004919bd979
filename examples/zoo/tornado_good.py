"""A Tornado server that listens when it is ready.

    greenroom audit --url ws://127.0.0.1:{port}/ws --expect echo -- python examples/zoo/tornado_good.py
"""

import asyncio
import os

from tornado.web import Application
from tornado.websocket import WebSocketHandler


class Echo(WebSocketHandler):
    def check_origin(self, origin):
        return True

    def on_message(self, message):
        return self.write_message(message)


async def main():
    # tidy: allow-sleep this is the slow start-up itself
    await asyncio.sleep(0.6)
    Application([("/ws", Echo)]).listen(int(os.environ["PORT"]), "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
