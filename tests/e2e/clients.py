"""Real clients that come while a server starts: each connects once, sends, checks its echo, closes with 1000.

    clients.py URL COUNT SPREAD_SECONDS [--paths /ws,/always500] [--open-timeout 10] [--raw]
               [--close-after-echo] [--until-stdin-closes] [--unix PATH]

Prints JSON lines. First {"event":"start","at":…} (CLOCK_MONOTONIC, ns): client i starts
SPREAD * i / COUNT seconds after it. Then {"event":"settled",…} when every client has its echo or has
failed, and last {"event":"result",…}:

    opened        clients that got a 101, at their first and only attempt
    failed        clients that got none; `reasons` counts why
    echo_wrong    clients that got a 101 and then not exactly what they had sent
    order         client numbers in the order of their 101s
    inversions    neighbours in `order` that stand the wrong way round
    open_s        p50 and max, in seconds from the start moment, and waited_max from the client's own start
    close_codes   how each opened connection ended: 1000 where this program closed it
    statuses      HTTP statuses of refused handshakes

COUNT clients take their paths from --paths in turn; `index % len(paths)`. Without --raw the clients are
the `websockets` library with its defaults (deflate offered, pings every 20 s). With --raw the handshake
and the frames are written by hand on asyncio streams, so that 10,000 fit on two cores.
Exit code 0 if every client opened and had its echo right, else 1.
"""

import argparse
import asyncio
import json
import os
import resource
import sys
import time
from collections import Counter
from urllib.parse import urlsplit

import rawclient

# SYNs in flight from --raw: more than a listener's backlog would only wait for retransmission.
CONNECTS = 256


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("count", type=int)
    parser.add_argument("spread", type=float)
    parser.add_argument("--paths", default=None)
    parser.add_argument("--open-timeout", type=float, default=10)
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--close-after-echo", action="store_true")
    parser.add_argument("--until-stdin-closes", action="store_true")
    parser.add_argument("--unix", default=None)
    args = parser.parse_args()
    parts = urlsplit(args.url)
    args.host, args.port = parts.hostname, parts.port or 80
    args.paths = args.paths.split(",") if args.paths else [parts.path or "/"]
    return args


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Library:
    """One client of the `websockets` library."""

    def __init__(self, args, path):
        self.args, self.path = args, path

    async def open(self):
        import websockets

        # proxy=None: the machine's proxy settings must not decide where a test connects.
        options = {"open_timeout": self.args.open_timeout, "proxy": None}
        uri = f"ws://{self.args.host}:{self.args.port}{self.path}"
        try:
            if self.args.unix:
                options.pop("proxy")
                self.socket = await websockets.unix_connect(self.args.unix, uri, **options).__aenter__()
            else:
                # __aenter__ tries once; iterating over connect() is what tries again.
                self.socket = await websockets.connect(uri, **options).__aenter__()
        except websockets.InvalidStatus as refused:
            raise rawclient.Refused(refused.response.status_code) from refused

    async def echo(self, text, binary):
        await self.socket.send(text)
        await self.socket.send(binary)
        return await self.socket.recv() == text and await self.socket.recv() == binary

    async def wait_closed(self):
        await self.socket.wait_closed()

    async def close(self):
        await self.socket.close(1000)
        return self.socket.close_code


class Run:
    """All clients and what became of them."""

    def __init__(self, args):
        self.args = args
        self.pending = args.count
        self.settled = asyncio.Event()
        self.finish = asyncio.Event()
        self.connects = asyncio.Semaphore(CONNECTS)
        self.order, self.opened_at, self.waited = [], [], []
        self.reasons, self.codes, self.statuses = Counter(), Counter(), Counter()
        self.echo_wrong = 0

    async def client(self, index):
        due = self.start + self.args.spread * index / self.args.count
        # tidy: allow-sleep the clients are spread over the server's start
        await asyncio.sleep(max(0, due - time.monotonic()))
        path = self.args.paths[index % len(self.args.paths)]
        client = rawclient.Raw(self.args, path, self.connects) if self.args.raw else Library(self.args, path)
        began = time.monotonic()
        try:
            await client.open()
        except rawclient.Refused as refused:
            self.statuses[str(refused.status)] += 1
            self.reasons[f"HTTP {refused.status}"] += 1
            return self.settle_one()
        except Exception as error:
            self.reasons[f"{type(error).__name__}: {error}"] += 1
            return self.settle_one()
        now = time.monotonic()
        self.order.append(index)
        self.opened_at.append(now - self.start)
        self.waited.append(now - began)
        await self.talk(index, client)

    async def talk(self, index, client):
        try:
            right = await client.echo(f"client {index} of {os.getpid()}", os.urandom(32) + index.to_bytes(4, "big"))
        except Exception as error:
            right = False
            self.reasons[f"echo: {type(error).__name__}: {error}"] += 1
        if not right:
            self.echo_wrong += 1
        self.settle_one()
        if right and not self.args.close_after_echo:
            # A connection that the server ends before the end is reported with the server's code.
            ended, finish = asyncio.ensure_future(client.wait_closed()), asyncio.ensure_future(self.finish.wait())
            await asyncio.wait({ended, finish}, return_when=asyncio.FIRST_COMPLETED)
            finish.cancel()
            ended.cancel()
            await asyncio.gather(ended, finish, return_exceptions=True)
        try:
            code = await client.close()
        except Exception as error:
            code = f"{type(error).__name__}"
        self.codes[str(code)] += 1

    def settle_one(self):
        self.pending -= 1
        if self.pending == 0:
            self.settled.set()

    async def run(self):
        self.start = time.monotonic()
        say("start", at=int(self.start * 1e9))
        tasks = [asyncio.ensure_future(self.client(index)) for index in range(self.args.count)]
        await self.settled.wait()
        say("settled", opened=len(self.order), failed=self.args.count - len(self.order))
        if self.args.until_stdin_closes:
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        self.finish.set()
        await asyncio.gather(*tasks)
        return self.report()

    def report(self):
        failed = self.args.count - len(self.order)
        say(
            "result",
            opened=len(self.order),
            failed=failed,
            echo_wrong=self.echo_wrong,
            reasons=self.reasons,
            statuses=self.statuses,
            inversions=sum(a > b for a, b in zip(self.order, self.order[1:])),
            open_s={
                "p50": sorted(self.opened_at)[len(self.opened_at) // 2] if self.opened_at else None,
                "max": max(self.opened_at, default=None),
                "waited_max": max(self.waited, default=None),
            },
            close_codes=self.codes,
            order=self.order,
        )
        return 0 if failed == 0 and self.echo_wrong == 0 else 1


async def main():
    # Run and its asyncio primitives belong to the running loop.
    return await Run(arguments()).run()


if __name__ == "__main__":
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sys.exit(asyncio.run(main()))
