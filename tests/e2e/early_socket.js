// One early client with the WebSocket interface of browsers: for Node's `ws` and `undici`, and for pages.
//
// It sends three messages as soon as it is open, waits for their echoes, and closes with 1000. Comes back with
// `{name, protocol, extensions, echoes, error, code, opened_ms}`: of an `error`, or of a close before its own,
// `error` tells; `opened_ms` is `performance.now()`. `opened` is called when it is open.
'use strict';

function early(WebSocket, { url, name, protocols }, opened) {
  return new Promise((resolve) => {
    const seen = { name, echoes: [], error: null };
    const socket = protocols?.length ? new WebSocket(url, protocols) : new WebSocket(url);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => {
      seen.opened_ms = performance.now();
      seen.protocol = socket.protocol;
      seen.extensions = socket.extensions;
      socket.send(`${name} 1`);
      socket.send(new TextEncoder().encode(`${name} 2`));
      socket.send(`${name} 3: größer ${'.'.repeat(300)}`);
      opened(name);
    };
    socket.onmessage = ({ data }) => {
      const binary = typeof data !== 'string';
      seen.echoes.push({ text: binary ? new TextDecoder().decode(data) : data, binary });
      if (seen.echoes.length === 3) socket.close(1000);
    };
    socket.onerror = (event) => (seen.error ??= `error: ${event?.message ?? event?.error ?? event?.type}`);
    socket.onclose = ({ code, reason, wasClean }) => {
      if (seen.echoes.length < 3) seen.error ??= `closed with ${code} ${reason}`;
      if (!wasClean) seen.error ??= `no clean close: ${code}`;
      resolve({ ...seen, code });
    };
  });
}

if (typeof module !== 'undefined') module.exports = { early };
