"""One early client: `early_client.py websockets|aiohttp|httpx-ws`, each with the defaults of its library.

Says and hears the same as early_client.js: {"event":"ready"}; its task from standard input, one line
{"url":…,"name":…,"protocols":[…]}; then three messages as soon as it is open, {"event":"opened"}, their echoes, a close
with 1000, and {"event":"result",…}.
"""

import asyncio
import json
import sys


def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


class Websockets:
    """The proxy settings of the machine must not decide where a test connects."""

    async def run(self, task, talk):
        from websockets import connect

        async with connect(task["url"], subprotocols=task["protocols"] or None, proxy=None) as socket:
            await talk(socket.subprotocol, socket.send, socket.send, socket.recv)
            await socket.close(1000)
            return socket.close_code


class Aiohttp:
    async def run(self, task, talk):
        import aiohttp

        async def receive():
            message = await socket.receive()
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                raise RuntimeError(f"{message}")
            return message.data

        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(task["url"], protocols=task["protocols"]) as socket:
                await talk(socket.protocol, socket.send_str, socket.send_bytes, receive)
                await socket.close(code=1000)
                return socket.close_code


class HttpxWs:
    async def run(self, task, talk):
        import httpx
        from httpx_ws import aconnect_ws
        from wsproto.events import TextMessage

        async def receive():
            message = await socket.receive()
            return message.data if isinstance(message, TextMessage) else bytes(message.data)

        async with httpx.AsyncClient(trust_env=False) as client:
            async with aconnect_ws(task["url"], client, subprotocols=task["protocols"] or None) as socket:
                await talk(socket.subprotocol, socket.send_text, socket.send_bytes, receive)
                await socket.close(1000)
                return 1000


LIBRARIES = {"websockets": Websockets, "aiohttp": Aiohttp, "httpx-ws": HttpxWs}


async def main(library, task):
    seen = {"name": task["name"], "protocol": "", "echoes": [], "error": None, "code": None}

    async def talk(protocol, send_text, send_bytes, receive):
        name = task["name"]
        await send_text(f"{name} 1")
        await send_bytes(f"{name} 2".encode())
        await send_text(f"{name} 3: größer {'.' * 300}")
        seen["protocol"] = protocol or ""
        say("opened")
        while len(seen["echoes"]) < 3:
            data = await receive()
            binary = not isinstance(data, str)
            seen["echoes"].append({"text": data.decode() if binary else data, "binary": binary})

    try:
        seen["code"] = await library.run(task, talk)
    except BaseException as error:
        seen["error"] = f"{type(error).__name__}: {error!r}"
    say("result", **seen)
    return 0 if seen["error"] is None else 1


if __name__ == "__main__":
    chosen = LIBRARIES[sys.argv[1]]()
    # What takes long to load is loaded before the test lets everybody go.
    __import__(sys.argv[1].replace("-", "_"))
    say("ready")
    sys.exit(asyncio.run(main(chosen, json.loads(sys.stdin.readline()))))
