// A Node server for clients that come long before it: it listens on PORT only after STARTUP_SECONDS (default 12), speaks
// the subprotocols chat.v1 and chat.v2, agrees on deflate with who offers it, and echoes. The ledger (LOG: see
// ledger.py) tells when it `listening`s, what each `open` agreed on, each `message`, and each `pong`, with `client` its `?name`.
'use strict';

const { WebSocketServer } = require('ws');
const { createServer } = require('http');
const { listen, log, number } = require('./lib.js');

const KNOWN = ['chat.v1', 'chat.v2'];

const server = createServer((_request, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({
  server,
  perMessageDeflate: true,
  handleProtocols: (offered) => [...offered].find((name) => KNOWN.includes(name)) ?? false,
});
sockets.on('connection', (socket, request) => {
  const client = new URL(request.url, 'ws://localhost').searchParams.get('name');
  log('open', request, { client, protocol: socket.protocol, extensions: socket.extensions });
  socket.on('message', (data, isBinary) => {
    log('message', request, { client, text: data.toString(), binary: isBinary });
    socket.send(data, { binary: isBinary });
  });
  socket.on('pong', (data) => log('pong', request, { client, text: data.toString() }));
  socket.on('close', (code) => log('close', request, { client, code }));
  socket.on('error', (error) => log('error', request, { client, error: String(error) }));
});
server.on('listening', () => log('listening', null));
setTimeout(() => listen(server), number('STARTUP_SECONDS', 12) * 1000);
