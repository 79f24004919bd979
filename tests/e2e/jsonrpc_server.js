// A JSON-RPC 2.0 server over WebSocket (the package rpc-websockets). It listens only when it is ready.
// PORT, STARTUP_SECONDS (default 1.5). `sum` adds two numbers; `announce` sends the event `news` to all who subscribed.
'use strict';

const { Server } = require('rpc-websockets');
const { number } = require('./lib.js');

setTimeout(() => {
  const server = new Server({ port: number('PORT', NaN), host: '127.0.0.1', backlog: 4096 });
  server.register('sum', ([a, b]) => a + b);
  server.event('news');
  server.register('announce', ([text]) => server.emit('news', text));
}, number('STARTUP_SECONDS', 1.5) * 1000);
