// A Node server that takes connections at once and never looks at those who came before it was ready: they hang until
// they give up, and whoever comes a moment later is served at once.
//
//     greenroom audit --expect echo -- node examples/zoo/impatient.js
'use strict';

const http = require('http');
const { WebSocketServer } = require('ws');

let isReady = false;
setTimeout(() => (isReady = true), 900);

const server = http.createServer((_request, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({ noServer: true });
server.on('upgrade', (request, stream, head) => {
  stream.on('error', () => {});
  if (!isReady) return; // forgotten
  sockets.handleUpgrade(request, stream, head, (socket) => {
    socket.on('error', () => {});
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
});
server.listen({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 4096 });
