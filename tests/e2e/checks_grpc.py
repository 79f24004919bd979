"""The health service of gRPC's own library, for `grpc` checks.

Listens on a free port, and on the Unix socket SOCKET; says its port in a line, then takes lines of
`SERVICE STATUS` (`-` is the whole server) and says `ok` to each. With HEALTH=no it has no health service.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

server = grpc.server(ThreadPoolExecutor(4))
servicer = health.HealthServicer()
if os.environ.get("HEALTH") != "no":
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
port = server.add_insecure_port("127.0.0.1:0")
server.add_insecure_port("unix:" + os.environ["SOCKET"])
server.start()
print(port, flush=True)
for line in sys.stdin:
    service, status = line.split()
    servicer.set("" if service == "-" else service, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    print("ok", flush=True)
