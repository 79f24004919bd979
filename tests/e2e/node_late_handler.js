// A Node server as many are: it attaches its message handler HANDLER_AFTER_MS (default 5) after it has accepted, for
// instance as it asks a database first, and what comes before is lost. With GREETING it sends that then. An echo.
// The ledger (LOG: see ledger.py) tells when it is `listening`, and of each `handler` after how many milliseconds that
// really was, counted from before the 101 was written: a busy machine makes it later.
'use strict';

const http = require('http');
const { WebSocketServer } = require('ws');
const { listen, log, number, stamped } = require('./lib.js');

const handlerAfterMs = number('HANDLER_AFTER_MS', 5);
const greeting = process.env.GREETING;

const server = http.createServer((_request, response) => response.writeHead(404).end());
stamped(new WebSocketServer({ server })).on('connection', (socket, request) => {
  socket.on('error', () => {});
  setTimeout(() => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    log('handler', request, { after_ms: performance.now() - request.switchingAt });
    if (greeting) socket.send(greeting);
  }, handlerAfterMs);
});
server.on('listening', () => log('listening', null));
listen(server);
