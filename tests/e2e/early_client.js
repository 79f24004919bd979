// One early client: `early_client.js ws|undici`. Prints {"event":"ready"}, reads its task from standard input, one line
// {"url":…,"name":…,"protocols":[…]}, and prints {"event":"opened"} and {"event":"result",…}: see early_socket.js.
'use strict';

const { createInterface } = require('readline');
const { early } = require('./early_socket.js');
const library = process.argv[2];
const { WebSocket } = library === 'ws' ? { WebSocket: require('ws') } : require(library);
const say = (event, more) => console.log(JSON.stringify({ event, ...more }));

createInterface({ input: process.stdin }).once('line', async (line) => {
  const result = await early(WebSocket, JSON.parse(line), () => say('opened'));
  say('result', result);
  process.exit(result.error === null ? 0 : 1);
});
say('ready');
