// A Node server that says honestly that it is not ready: it listens at once on PORT, and until it is
// ready (STARTUP_SECONDS, default 3) answers each upgrade with 503. Afterwards an echo. LOG: see ledger.py.
'use strict';

const http = require('http');
const { WebSocketServer } = require('ws');
const { echo, listen, log, number } = require('./lib.js');

const readyAt = performance.now() + number('STARTUP_SECONDS', 3) * 1000;

const server = http.createServer((_request, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({ noServer: true });
server.on('upgrade', (request, socket, head) => {
  if (performance.now() < readyAt) {
    log('reject', request, { code: 503 });
    socket.on('error', () => {});
    socket.end('HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
    return;
  }
  sockets.handleUpgrade(request, socket, head, (upgraded) => echo(upgraded, request));
});
listen(server);
