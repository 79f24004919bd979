// A socket.io server with the transports that it comes with. It listens only when it is ready.
// PORT, STARTUP_SECONDS (default 1.5). `say` is answered with what was said; `push` is sent back as an event.
'use strict';

const http = require('http');
const { Server } = require('socket.io');
const { listen, number } = require('./lib.js');

const server = http.createServer();
const io = new Server(server);

io.on('connection', (socket) => {
  socket.on('say', (text, answer) => answer(text));
  socket.on('push', (bytes) => socket.emit('pushed', bytes));
});

setTimeout(() => listen(server), number('STARTUP_SECONDS', 1.5) * 1000);
