// The ways by which an upgrade reaches a WebSocketServer: each has `serve(t, WebSocketServer, options)`, which resolves
// to the server and to `dial`, what a client of ws needs to get there.

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { duplexPair } from 'node:stream';
import tls from 'node:tls';
import { promisify } from 'node:util';

async function listen(t, server, where = { port: 0, host: '127.0.0.1' }) {
  server.listen(where);
  await once(server, 'listening');
  t.after(() => server.close());
  return server.address().port;
}

/** What upgrade listeners of applications look like. */
const take = (wss) => (request, socket, head) => wss.handleUpgrade(request, socket, head, (ws) => wss.emit('connection', ws, request));

/** A self-signed certificate of "localhost", made by the openssl program. */
async function certificate(t) {
  const folder = await mkdtemp(path.join(tmpdir(), 'wsguard-moving-'));
  t.after(() => rm(folder, { recursive: true }));
  const files = { key: path.join(folder, 'key.pem'), cert: path.join(folder, 'cert.pem') };
  await promisify(execFile)('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=localhost',
    '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', files.key, '-out', files.cert,
  ]);
  return { key: await readFile(files.key), cert: await readFile(files.cert) };
}

/** A stream of bytes to where `dial` points. */
export function raw(t, { url, createConnection, ca }) {
  const { protocol, hostname: host, port, pathname } = new URL(url);
  const open = {
    'ws:': () => createConnection?.() ?? net.connect({ host, port }),
    'wss:': () => tls.connect({ host, port, ca }),
    'ws+unix:': () => net.connect({ path: pathname.split(':')[0] }),
  };
  const stream = open[protocol]();
  t.after(() => stream.destroy());
  return stream;
}

export const WAYS = {
  port: async (t, WebSocketServer, options) => {
    const wss = new WebSocketServer({ port: 0, host: '127.0.0.1', ...options });
    t.after(() => wss.close());
    await once(wss, 'listening');
    return { wss, dial: { url: `ws://127.0.0.1:${wss.address().port}/` } };
  },

  server: async (t, WebSocketServer, options) => {
    const server = http.createServer();
    const wss = new WebSocketServer({ server, ...options });
    return { wss, dial: { url: `ws://127.0.0.1:${await listen(t, server)}/` } };
  },

  noServer: async (t, WebSocketServer, options) => {
    const wss = new WebSocketServer({ noServer: true, ...options });
    const server = http.createServer().on('upgrade', take(wss));
    return { wss, dial: { url: `ws://127.0.0.1:${await listen(t, server)}/` } };
  },

  'Unix socket': async (t, WebSocketServer, options) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'wsguard-moving-'));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const server = http.createServer();
    const wss = new WebSocketServer({ server, ...options });
    await listen(t, server, { path: path.join(folder, 's') });
    return { wss, dial: { url: `ws+unix://${path.join(folder, 's')}:/` } };
  },

  https: async (t, WebSocketServer, options) => {
    const pair = await certificate(t);
    const server = https.createServer(pair);
    const wss = new WebSocketServer({ server, ...options });
    return { wss, dial: { url: `wss://127.0.0.1:${await listen(t, server)}/`, ca: pair.cert } };
  },

  'HTTP/2 tunnel': async (t, WebSocketServer, options) => {
    const wss = new WebSocketServer({ noServer: true, ...options });
    const inner = http.createServer().on('upgrade', take(wss));
    const outer = http2.createServer();
    outer.on('stream', (stream) => {
      stream.on('error', () => {});
      stream.respond({ ':status': 200 });
      inner.emit('connection', stream);
    });
    const session = http2.connect(`http://127.0.0.1:${await listen(t, outer)}`);
    session.on('error', () => {});
    t.after(() => session.destroy());
    const createConnection = () => session.request({ ':method': 'CONNECT', ':authority': 'app.test' });
    return { wss, dial: { url: 'ws://app.test/', createConnection } };
  },

  'in-memory pair': async (t, WebSocketServer, options) => {
    const wss = new WebSocketServer({ noServer: true, ...options });
    const server = http.createServer().on('upgrade', take(wss));
    const createConnection = () => {
      const [ours, theirs] = duplexPair();
      // A pair of Node 20 does not tell one side that the other was destroyed.
      ours.on('close', () => theirs.destroy());
      server.emit('connection', theirs);
      return ours;
    };
    return { wss, dial: { url: 'ws://app.test/', createConnection } };
  },
};
