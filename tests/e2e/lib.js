// What the Node backends share: the ledger (see ledger.py), the echo, and the environment.
'use strict';

const fs = require('fs');

// O_APPEND and one write per line: several workers share the file.
const fd = process.env.LOG ? fs.openSync(process.env.LOG, 'a', 0o666) : -1;

// `event` is open, message, wasted, reject, closing or close; `more` has its other fields, such as the close code or
// HTTP status. What belongs to no request has none.
function log(event, request, more = {}) {
  if (fd < 0) return;
  const line = {
    event,
    at: Number(process.hrtime.bigint()), // CLOCK_MONOTONIC; to the nanosecond for the first 104 days of uptime
    session: request?.headers['greenroom-session'] ?? null,
    attempt: request?.headers['greenroom-attempt'] ?? null,
    path: request?.url ?? null,
    pid: process.pid,
    ...more,
  };
  fs.writeSync(fd, JSON.stringify(line) + '\n');
}

// Sends every message back as it came, text as text.
function echo(socket, request) {
  log('open', request);
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on('close', (code) => log('close', request, { code }));
  socket.on('error', () => {});
}

// Stamps each request when its 101 is about to be written.
function stamped(sockets) {
  sockets.on('headers', (_headers, request) => (request.switchingAt = performance.now()));
  return sockets;
}

// Accepts, and shows only after `afterMs` that it was too early: Close 1011. `closing` in the ledger
// tells after how many milliseconds that really was, counted from before the 101 was written (`stamped`):
// a busy machine makes it later, also between that write and this function.
function tooEarly(socket, request, afterMs) {
  const due = performance.now() + afterMs;
  log('reject', request, { code: 1011 });
  socket.on('error', () => {});
  socket.on('message', () => log('wasted', request)); // nobody will ever handle it
  // A timer of Node is up to 2 ms late: the rest is waited for on the spot.
  setTimeout(() => {
    while (performance.now() < due);
    socket.close(1011, 'not ready');
    log('closing', request, { code: 1011, after_ms: performance.now() - request.switchingAt });
  }, Math.max(0, afterMs - 2));
}

// A number from the environment, in the unit of its name.
function number(name, fallback) {
  const value = Number(process.env[name] ?? fallback);
  if (!Number.isFinite(value)) throw new Error(`${name} is ${process.env[name]}; it must be a number`);
  return value;
}

// Listens on PORT of the loopback address, with a backlog that takes a whole release.
function listen(server) {
  server.listen({ port: number('PORT', NaN), host: '127.0.0.1', backlog: 4096 });
}

module.exports = { echo, listen, log, number, stamped, tooEarly };
