// A Node server that listens at once, and answers handshakes with 503 until it is ready.
//
//     greenroom audit --expect echo -- node examples/zoo/node_503.js
'use strict';

const http = require('http');
const { WebSocketServer } = require('ws');

let isReady = false;
setTimeout(() => (isReady = true), 900);

const server = http.createServer((_request, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({ noServer: true });
server.on('upgrade', (request, stream, head) => {
  if (!isReady) return stream.end('HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
  sockets.handleUpgrade(request, stream, head, (socket) => {
    socket.on('error', () => {});
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
});
server.listen({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 4096 });
