// A Node server that listens at once, and closes with 1011 whoever comes before it is ready: the start-up race that
// greenroom began with.
//
//     greenroom audit --expect echo -- node examples/zoo/node_1011.js
'use strict';

const { WebSocketServer } = require('ws');

let isReady = false;
setTimeout(() => (isReady = true), 900);

const server = new WebSocketServer({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 4096 });
server.on('connection', (socket) => {
  socket.on('error', () => {});
  if (!isReady) return socket.close(1011, 'service not ready');
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
