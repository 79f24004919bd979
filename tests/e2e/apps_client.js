// The applications' own clients: `apps_client.js SCENARIO URL [COUNT] [SECONDS]` runs COUNT of them (default 1), spread over
// SECONDS (default 0: all at once), without a second try anywhere. Prints one JSON line: `event` result, `results` (one
// for each client, in order), and ends with code 1 if one of them threw.
'use strict';

const crypto = require('crypto');

const [scenario, base, count = '1', seconds = '0'] = process.argv.slice(2);

function check(holds, what) {
  if (!holds) throw new Error(what);
}

// A promise of the next event of this name.
function next(emitter, name, wrong = []) {
  return new Promise((resolve, reject) => {
    emitter.once(name, (...values) => resolve(values));
    for (const bad of wrong) emitter.once(bad, (error) => reject(new Error(`${bad}: ${error?.message ?? error}`)));
  });
}

const scenarios = {
  // A GET, as a script does it.
  async get() {
    const answer = await fetch(base);
    return { status: answer.status, body: await answer.text() };
  },

  // 100 MB as a form does it. The hash is compared with the one that the backend made of what it got.
  async upload(index) {
    const part = crypto.randomBytes(1 << 20);
    const parts = Array.from({ length: 100 }, (_, at) => Buffer.concat([Buffer.from([index, at]), part.subarray(2)]));
    const hash = crypto.createHash('sha256');
    for (const piece of parts) hash.update(piece);
    const form = new FormData();
    form.append('file', new Blob(parts), 'large.bin');
    const answer = await fetch(`${base}/upload`, { method: 'POST', body: form });
    const told = await answer.json();
    check(answer.status === 200, `${answer.status}: ${JSON.stringify(told)}`);
    check(told.sha256 === hash.digest('hex'), 'another hash at the backend');
    return { bytes: told.bytes };
  },

  // Reads a stream of which each piece is produced only when the one before was seen. Pieces are told apart by `separator`.
  async stream(index, path, separator) {
    const who = `${process.pid}-${index}`;
    const answer = await fetch(`${base}${path}?who=${who}`);
    check(answer.status === 200, `${answer.status}`);
    let text = '';
    let pieces = 0;
    for await (const bytes of answer.body) {
      text += Buffer.from(bytes).toString();
      while (text.includes(separator)) {
        const piece = text.slice(0, text.indexOf(separator));
        text = text.slice(text.indexOf(separator) + separator.length);
        if (piece.includes('over')) return { pieces, type: answer.headers.get('content-type') };
        pieces += 1;
        check((await fetch(`${base}/seen?who=${who}`, { method: 'POST' })).status === 204, 'not taken as seen');
      }
    }
    throw new Error(`it ended after ${pieces} pieces`);
  },
  events: (index) => scenarios.stream(index, '/events', '\n\n'),
  lines: (index) => scenarios.stream(index, '/stream', '\n'),

  // The echo of one message.
  async websocket() {
    const WebSocket = require('ws');
    const socket = new WebSocket(`${base.replace('http', 'ws')}/ws`);
    await next(socket, 'open', ['error', 'close']);
    socket.send('hello');
    const [echo] = await next(socket, 'message', ['error', 'close']);
    socket.close(1000);
    const [code] = await next(socket, 'close');
    check(echo.toString() === 'hello', `echo: ${echo}`);
    return { code };
  },

  // socket.io, with its default transports or the ones that are named.
  async socketio(_index, transports) {
    const { io } = require('socket.io-client');
    const options = { reconnection: false, forceNew: true };
    const socket = io(base, transports ? { ...options, transports } : options);
    const first = socket.io.engine.transport.name;
    let upgraded = false;
    const upgrade = new Promise((resolve) => {
      socket.io.engine.once('upgrade', () => resolve((upgraded = true)));
    });
    await next(socket, 'connect', ['connect_error']);
    check((await socket.timeout(10000).emitWithAck('say', 'early')) === 'early', 'no echo at first');
    if (!transports) await upgrade;
    check((await socket.timeout(10000).emitWithAck('say', 'late')) === 'late', 'no echo at last');
    const sent = crypto.randomBytes(50000);
    const pushed = next(socket, 'pushed', ['disconnect']);
    socket.emit('push', sent);
    check(sent.equals((await pushed)[0]), 'other bytes came back');
    const last = socket.io.engine.transport.name;
    socket.disconnect();
    return { first, upgraded, last };
  },
  socketio_polling: (index) => scenarios.socketio(index, ['polling']),
  socketio_websocket: (index) => scenarios.socketio(index, ['websocket']),

  // JSON-RPC: a call, an error as the answer, and an event.
  async jsonrpc(index) {
    const { Client } = require('rpc-websockets');
    const client = new Client(base.replace('http', 'ws'), { reconnect: false });
    await next(client, 'open', ['error', 'close']);
    const sum = await client.call('sum', [index, 2]);
    check(sum === index + 2, `sum: ${sum}`);
    const error = await client.call('no-such-method').catch((error) => error);
    check(error.code === -32601, `error: ${JSON.stringify(error)}`);
    await client.subscribe('news');
    const news = new Promise((resolve) => client.on('news', (text) => text === `of ${index}` && resolve(text)));
    await client.call('announce', [`of ${index}`]);
    await news;
    const closed = next(client, 'close');
    client.close(1000);
    return { sum, code: (await closed)[0] };
  },

  // A file is not sent again to who has it.
  async unmodified() {
    const first = await fetch(base);
    check(first.status === 200, `${first.status}`);
    await first.text();
    const since = first.headers.get('last-modified');
    const second = await fetch(base, { headers: { 'If-Modified-Since': since } });
    return { status: second.status, body: await second.text(), since };
  },
};

async function main() {
  const clients = Array.from({ length: Number(count) }, async (_, index) => {
    // The clients come one after the other, whatever becomes of the earlier ones.
    await new Promise((resolve) => setTimeout(resolve, (Number(seconds) * 1000 * index) / Number(count)));
    return scenarios[scenario](index);
  });
  const settled = await Promise.allSettled(clients);
  const results = settled.map(({ value, reason }) => value ?? { error: `${reason?.stack} ${reason?.cause ?? ''}` });
  console.log(JSON.stringify({ event: 'result', results }));
  process.exit(settled.some(({ status }) => status === 'rejected') ? 1 : 0);
}

main();
