// The same as quiet_client.py with `ws`: `quiet_client.js URL`.
'use strict';

const { createInterface } = require('readline');
const WebSocket = require('ws');
const say = (event, more) => console.log(JSON.stringify({ event, ...more }));

const socket = new WebSocket(process.argv[2]);
socket.on('open', () => {
  say('opened');
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => socket.send(line));
  lines.on('close', () => socket.close(1000));
});
socket.on('message', (data) => say('echo', { text: data.toString() }));
socket.on('error', (error) => say('error', { error: String(error) }));
socket.on('close', (code) => {
  say('result', { code });
  process.exit(0);
});
