// A socket.io server that listens when it is ready. Asked as a plain WebSocket: it opens with a packet of its own, and
// answers `40` (connect) with `40{…}`.
//
//     greenroom audit --url 'ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket' --message 40 --expect '^40' -- node examples/zoo/socketio.js
'use strict';

const http = require('http');
const { Server } = require('socket.io');

const server = http.createServer();
new Server(server);
setTimeout(() => server.listen({ port: Number(process.env.PORT), host: '127.0.0.1', backlog: 4096 }), 600);
