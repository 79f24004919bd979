"""A server that starts as slowly as its test wants, and says of itself what its test wants.

PORT; CONTROL: a FIFO. Each line read from it is sent over sd_notify (`\\n` in it separates assignments); before the first
line that begins with READY=1 the server begins to listen and writes `ready` into the ledger. Each GET is written there as
`get`. LOG: see ledger.py.
"""

import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ledger import log

PAGE = b"<!doctype html><title>The application</title><link rel=icon href=data:,><h1>Here it is</h1>"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        log("get", {name.lower(): value for name, value in self.headers.items()}, self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_arguments):
        pass


def notify(text):
    path = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)


def main():
    server = None
    while True:
        with open(os.environ["CONTROL"]) as control:
            for line in control:
                text = line.rstrip("\n").replace("\\n", "\n")
                if text.startswith("READY=1") and server is None:
                    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
                    threading.Thread(target=server.serve_forever, daemon=True).start()
                    log("ready", {}, "/")
                notify(text)


main()
