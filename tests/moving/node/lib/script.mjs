// Random scripts of what one side says, and what the other side hears of it.

import { once } from 'node:events';

const LENGTHS = [0, 1, 5, 125, 126, 1_000, 65_535, 65_536, 70_000];
const REASONS = [[], [1000, 'bye'], [4001, 'x'.repeat(123)], [3000], [1001, 'é']];

/** mulberry32: the same numbers for the same seed. */
function randomOf(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** What may be said, each as `(ws, length, n)`. */
const SAYINGS = {
  text: (ws, length, n) => ws.send('t'.repeat(length) + n),
  bytes: (ws, length, n) => ws.send(Buffer.alloc(length, n)),
  plain: (ws, length, n) => ws.send('p'.repeat(length) + n, { compress: false }),
  buffer: (ws, length) => ws.send(new Uint8Array(length).buffer),
  blob: (ws, length, n) => ws.send(new Blob(['b'.repeat(length) + n])),
  fragments(ws, length, n) {
    for (let i = 0; i < n % 3; i++) ws.send('f'.repeat(length), { fin: false });
    ws.send('end', { fin: true });
  },
  ping: (ws, length, n) => ws.ping(`ping ${n}`),
  pong: (ws, length, n) => ws.pong(`pong ${n}`),
  turn: () => new Promise(setImmediate),
  async paused(ws) {
    ws.pause();
    await new Promise(setImmediate);
    ws.resume();
  },
};

/** A script of up to twelve sayings and a close; some go on behind it. */
export function scriptOf(seed) {
  const random = randomOf(seed);
  const names = Object.keys(SAYINGS);
  const script = Array.from({ length: random(12) }, (_, n) => [names[random(names.length)], LENGTHS[random(LENGTHS.length)], n]);
  script.push(['close', ...REASONS[random(REASONS.length)]]);
  if (random(3) === 0) script.push(['text', 1, 99]);
  if (random(5) === 0) script.push(['close', 1000]);
  return script;
}

export async function say(ws, script) {
  for (const [name, ...details] of script) {
    if (name === 'close') ws.close(...details);
    else await SAYINGS[name](ws, ...details);
  }
}

/** Everything that `ws` hears until it is closed. */
export async function hear(ws) {
  const heard = [];
  ws.on('message', (data, isBinary) => heard.push([isBinary ? 'binary' : 'text', data.length, String(data.subarray(-8))]));
  ws.on('ping', (data) => heard.push(['ping', String(data)]));
  ws.on('pong', (data) => heard.push(['pong', String(data)]));
  ws.on('error', (error) => heard.push(['error', error.code]));
  const [code, reason] = await once(ws, 'close');
  return [...heard, ['close', code, String(reason)]];
}
