// What `http` and `websocket` checks ask, for Node. Listens on the Unix socket SOCKET. Each plain request is answered
// in chunks with the Host that it came with; each WebSocket is greeted; with PONGS=no pings get no pong.
'use strict';

const http = require('http');
const { WebSocketServer } = require('ws');

const server = http.createServer((request, response) => {
  response.setHeader('Content-Type', 'application/json');
  response.write('{"host": ');
  response.end(`${JSON.stringify(request.headers.host)}, "steps": [{"name": "cache"}]}`);
});
const sockets = new WebSocketServer({ server, autoPong: process.env.PONGS !== 'no' });
sockets.on('connection', (socket) => socket.send('x'.repeat(20000)));
server.listen(process.env.SOCKET);
