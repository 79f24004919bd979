// A Node server that looks its client up before it attaches the handler for messages: what comes within those 15 ms
// is lost, at any time of its life and not only at its start.
//
//     greenroom audit --expect echo -- node examples/zoo/node_late_handler.js
'use strict';

const { WebSocketServer } = require('ws');

const lookUp = () => new Promise((found) => setTimeout(found, 15));

setTimeout(() => {
  const server = new WebSocketServer({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 4096 });
  server.on('connection', async (socket) => {
    socket.on('error', () => {});
    await lookUp();
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
}, 600);
