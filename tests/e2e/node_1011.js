// A Node server that accepts too early: it listens at once on PORT, and until it is ready
// (STARTUP_SECONDS, default 3) accepts each handshake and closes with 1011 after CLOSE_AFTER_MS
// (default 5). Afterwards an echo. LOG: see ledger.py.
'use strict';

const http = require('http');
const { WebSocketServer } = require('ws');
const { echo, listen, number, tooEarly } = require('./lib.js');

const readyAt = performance.now() + number('STARTUP_SECONDS', 3) * 1000;
const closeAfterMs = number('CLOSE_AFTER_MS', 5);

const server = http.createServer((_request, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({ server });
sockets.on('connection', (socket, request) => {
  if (performance.now() < readyAt) tooEarly(socket, request, closeAfterMs);
  else echo(socket, request);
});
listen(server);
