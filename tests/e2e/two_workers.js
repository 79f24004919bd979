// Two worker processes behind one port, of which one is late: the first is ready after
// STARTUP_SECONDS (default 1), the second LATE_SECONDS (default 1) later. Until then a worker accepts
// and closes with 1011 after 5 ms. Both listen at once, and count from when they do: a busy machine
// makes neither of them ready before it was ever met. LOG: see ledger.py.
//
// CLUSTER=rr (default): the first process accepts and deals connections out in turn, so every second
// one meets the late worker. CLUSTER=shared: both accept from one socket, whoever is first.
'use strict';

const cluster = require('cluster');
const http = require('http');
const { echo, listen, number, stamped, tooEarly } = require('./lib.js');

if (cluster.isPrimary) {
  cluster.schedulingPolicy = process.env.CLUSTER === 'shared' ? cluster.SCHED_NONE : cluster.SCHED_RR;
  for (const worker of [0, 1]) cluster.fork({ WORKER: worker });
  // A worker that dies takes the whole server with it: a test must not go on with half of one.
  cluster.on('exit', () => process.exit(1));
} else {
  const { WebSocketServer } = require('ws');
  const late = number('WORKER') * number('LATE_SECONDS', 1);
  let readyAt = Infinity;
  const server = http.createServer((_request, response) => response.writeHead(404).end());
  const sockets = stamped(new WebSocketServer({ server }));
  sockets.on('connection', (socket, request) => {
    if (performance.now() < readyAt) tooEarly(socket, request, 5);
    else echo(socket, request);
  });
  server.on('listening', () => {
    readyAt = performance.now() + (number('STARTUP_SECONDS', 1) + late) * 1000;
  });
  listen(server);
}
