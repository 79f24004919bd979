// A Node server that accepts too early: it listens at once on PORT, and until it is ready
// (STARTUP_SECONDS, default 3) accepts each handshake and closes with 1011 after CLOSE_AFTER_MS
// (default 5). Afterwards an echo. LOG: see ledger.py.
'use strict';

const http = require('http');
const { WebSocket, WebSocketServer } = require('ws');
const { echo, listen, number, stamped, tooEarly } = require('./lib.js');

const readyAt = performance.now() + number('STARTUP_SECONDS', 3) * 1000;
const closeAfterMs = number('CLOSE_AFTER_MS', 5);

const server = http.createServer((_request, response) => response.writeHead(404).end());
const sockets = stamped(new WebSocketServer({ server }));
sockets.on('connection', (socket, request) => {
  if (performance.now() < readyAt) tooEarly(socket, request, closeAfterMs);
  else echo(socket, request);
});

// One connection of its own first: what Node compiles at its first handshake and its first Close takes
// longer than the milliseconds that CLOSE_AFTER_MS is about.
const rehearsal = http.createServer();
new WebSocketServer({ server: rehearsal }).on('connection', (socket) => socket.close(1011, 'not ready'));
rehearsal.listen({ port: 0, host: '127.0.0.1' }, () => {
  const client = new WebSocket(`ws://127.0.0.1:${rehearsal.address().port}`);
  client.on('error', () => {});
  client.on('close', () => rehearsal.close(() => listen(server)));
});
