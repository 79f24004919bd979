"""A collector that takes traces as OTLP over HTTP (protobuf), and says what it got.

HOW, the only argument: `take`; `refuse` answers 503; `hang` takes the connection and never answers. Prints one JSON line for each: {"event":
"listening", "port"}, {"event": "request", "path", "type", "resource"}, and for each span {"event": "span", "trace", "span", "parent", "name", "kind",
"error", "ms", "flags", "attributes"}. Read with OpenTelemetry's own classes, so that what is no OTLP is no span.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def plain(attributes):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if sys.argv[1] == "hang":
            say("request", path=self.path, type=self.headers["Content-Type"], resource={})
            threading.Event().wait()
        if sys.argv[1] == "refuse":
            say("request", path=self.path, type=self.headers["Content-Type"], resource={})
            self.answer(503, b"")
            return
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            say("request", path=self.path, type=self.headers["Content-Type"], resource=plain(resource.resource.attributes))
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                say(
                    "span",
                    trace=span.trace_id.hex(),
                    span=span.span_id.hex(),
                    parent=span.parent_span_id.hex(),
                    name=span.name,
                    kind=span.kind,
                    error=span.status.code == 2,
                    ms=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
                    flags=span.flags,
                    attributes=plain(span.attributes),
                )
        self.answer(200, ExportTraceServiceResponse().SerializeToString())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


def main():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    say("listening", port=server.server_address[1])
    server.serve_forever()


main()
