"""A server that dies of one request, as one with a fault in one handler does.

`/crash` ends the process without an answer, plain or as an opening handshake; anything else is answered with
200. Each request is a line of the file LOG: its path, and its Greenroom-Session and -Attempt.
NOTIFY: it says READY=1. PORT: where it listens.
"""

import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        session, attempt = self.headers["Greenroom-Session"], self.headers["Greenroom-Attempt"]
        with open(os.environ["LOG"], "a") as log:
            log.write(f"{self.path} {session} {attempt}\n")
        if self.path == "/crash":
            os._exit(3)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
if os.environ.get("NOTIFY"):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
server.serve_forever()
