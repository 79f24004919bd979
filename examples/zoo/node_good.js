// A Node server with `ws` that listens when it is ready.
//
//     greenroom audit --expect echo -- node examples/zoo/node_good.js
'use strict';

const { WebSocketServer } = require('ws');

setTimeout(() => {
  const server = new WebSocketServer({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 4096 });
  server.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    socket.on('error', () => {});
  });
}, 600);
