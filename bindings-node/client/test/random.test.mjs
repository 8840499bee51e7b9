// Any order of what networks, servers and applications do. After every step these hold: at most one socket is in use, one
// timer of the connection at most, no wait over its bound, the queue in its bounds, each request settled once at most, and
// nothing is sent twice. In the end everything is settled and no timer is left. SEED=N repeats one run, RUNS=N makes more.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { randomOf, settle } from './fixtures/clock.mjs';
import { outcome, start } from './fixtures/start.mjs';

const RUNS = Number(process.env.RUNS ?? 150);
const STEPS = 120;
const BOUNDS = { maxQueuedMessages: 5, maxQueuedBytes: 400 };
const CODES = [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 4000, 0, -1, 65536];
const REASONS = ['', 'session expired', 'slow consumer', 'rate limit', 'retry after 3', 'retry after 1e99'];
const TEXTS = ['', '{}', 'null', '{"event":"said"}', '{"event":"confirm","id":1}', '{"event":"__proto__","id":"~1"}'];

/** One client and what it is told; the invariants are looked at after every step. */
class Run {
  requests = [];
  /** The ids of those that a server saw, on whatever connection. */
  asked = [];
  numbers = new Map();
  #lastNumber = 0;

  constructor(random, world) {
    Object.assign(this, { random, ...world });
  }

  pick(list) {
    return list[Math.floor(this.random() * list.length)];
  }

  /** A number that no other message has, in data of some size. */
  #data() {
    const number = (this.#lastNumber += 1);
    this.numbers.set(number, 0);
    return { number, filler: 'ü'.repeat(Math.floor(this.random() ** 4 * 250)) };
  }

  acts = {
    accept: () => this.socket?.readyState === 0 && this.socket.accept(),
    // Mostly what lets it live on: a run that ends at once shows little.
    end: () => this.socket?.end(this.random() < 0.8 ? this.pick([1001, 1006, 1012]) : this.pick(CODES), this.pick(REASONS)),
    endOfOld: async () => {
      const [now, state, old] = [this.socket, this.client.state, this.pick(this.Socket.made.slice(0, -1))];
      await old?.end(this.pick(CODES), this.pick(REASONS));
      assert.deepEqual([this.socket === now, this.client.state], [true, state], 'an old socket matters');
    },
    // Before a connection it is the end, and not every WebSocket says so by a close; on one it says nothing.
    error: () => {
      const { socket } = this;
      if (socket?.readyState === 0) socket.readyState = 3;
      void socket?.onerror({});
    },
    closing: () => this.socket?.readyState === 1 && (this.socket.readyState = 2),
    text: () => this.pick(this.Socket.made)?.say(this.pick(TEXTS)),
    answer: () => {
      const id = this.pick(this.asked);
      return this.socket?.say({ event: 'ask', id, status: this.pick(['ok', 'error', undefined]) });
    },
    emit: () => void this.client.emit('say', this.#data()),
    request: () => {
      const options = { timeoutMs: this.pick([0, 10, 1000, 60_000]) };
      if (this.random() < 0.3) options.signal = this.abort.signal;
      const data = this.#data();
      this.requests.push(Object.assign(outcome(this.client.request('ask', data, options)), { number: data.number }));
    },
    abortRequests: () => {
      this.abort.abort();
      this.abort = new AbortController();
    },
    short: () => this.clock.advance(this.random() * 50),
    long: () => this.clock.advance(this.random() * 40_000),
    next: () => this.clock.next(),
    resolve: async () => {
      const { socket } = this;
      const wasOpen = socket?.readyState === 1;
      this.pick(this.pending)?.();
      await settle();
      // An answer that comes late is about another attempt, but for the renewal of this connection's token.
      const renewed = this.states.at(-1)?.[1].reason === 'token renewed';
      assert.ok(!wasOpen || renewed || this.socket === socket, 'a late answer ends a connection');
    },
    online: () => this.world.dispatchEvent(new Event('online')),
    reconnect: () => this.random() < 0.3 && this.client.reconnect(),
    close: () => this.random() < 0.02 && this.client.close(),
  };

  get socket() {
    return this.Socket.made.findLast(({ readyState }) => readyState < 2);
  }

  async step() {
    const name = this.pick(Object.keys(this.acts));
    await this.acts[name]();
    await settle();
    try {
      this.check();
    } catch (error) {
      throw new Error(`after ${name}: ${error.message}`, { cause: error });
    }
  }

  check() {
    const { Socket, states, client, clock } = this;
    const used = Socket.made.filter(({ readyState }) => readyState < 2);
    assert.ok(used.length <= 1, `${used.length} sockets in use`);
    assert.ok(client.state !== 'closed' || used.length === 0, 'a socket of a closed client');
    const open = this.requests.filter(({ settled }) => settled === 0).length;
    assert.ok(this.requests.every(({ settled }) => settled <= 1), 'settled twice');
    assert.ok(clock.timers <= open + 1, `${clock.timers} timers, ${open} requests`);
    for (const [state, { delayMs }] of states.splice(0)) {
      if (state === 'reconnecting') assert.ok(delayMs >= 0 && delayMs <= 3_600_000 + 300_000, `waits ${delayMs}`);
    }
    for (const { sent, discarded } of Socket.made) {
      assert.deepEqual(discarded, []);
      for (const { id, data } of sent.splice(0)) {
        if (id) this.asked.push(id);
        assert.ok(!this.requests.some(({ number, isOver }) => isOver && number === data?.number), 'sent after it had failed');
        if (data?.number) this.numbers.set(data.number, this.numbers.get(data.number) + 1);
      }
    }
    for (const request of this.requests) request.isOver = request.settled > 0;
    assert.ok([...this.numbers.values()].every((times) => times <= 1), 'sent twice');
  }

  async finish() {
    this.client.close();
    await settle();
    const { unsent } = await this.client.closed;
    assert.ok(unsent <= BOUNDS.maxQueuedMessages, `${unsent} in the queue`);
    assert.ok(this.requests.every(({ settled }) => settled === 1), 'a request was not settled');
    assert.equal(this.clock.timers, 0);
    await this.clock.advance(1e7);
    const made = this.Socket.made.length;
    for (const socket of this.Socket.made) await socket.end(1012);
    await this.clock.advance(1e7);
    assert.deepEqual([this.Socket.made.length, this.clock.timers], [made, 0]);
    assert.deepEqual(this.codes().filter((code) => !EXPECTED.includes(code)), []);
  }
}

const EXPECTED = ['queue_full', 'bad_message', 'rejected', 'token_failed'];

/** What the application gives: at once, later (when the act `resolve` says so), or never. */
function slow(random, pending, value) {
  if (random() < 0.5) return value();
  return new Promise((resolve) => pending.push(() => resolve(value())));
}

const applications = (random, pending) => ({
  token: () => {
    if (random() < 0.1) throw new Error('token');
    if (random() < 0.1) return Promise.reject(new Error('token'));
    return slow(random, pending, () => ({ token: 't', expiresAtMs: Date.now() + random() * 120_000 }));
  },
  retry: () => slow(random, pending, () => (random() < 0.9 ? true : undefined)),
  probe: () => slow(random, pending, () => ({ headers: { get: () => random() * 10 } })),
});

async function run(t, seed) {
  const random = randomOf(seed);
  const world = new EventTarget();
  globalThis.addEventListener = world.addEventListener.bind(world);
  t.after(() => delete globalThis.addEventListener);
  const pending = [];
  const options = { ...BOUNDS, token: 't' };
  for (const [name, act] of Object.entries(applications(random, pending))) if (random() < 0.5) options[name] = act;
  const made = await start(t, options, { isOpen: false, seed });
  made.client.handle('confirm', (data) => data);
  const one = new Run(random, { ...made, world, pending, abort: new AbortController() });
  for (let step = 0; step < STEPS; step += 1) await one.step();
  await one.finish();
}

const first = Number(process.env.SEED ?? 1);
for (let seed = first; seed < first + (process.env.SEED ? 1 : RUNS); seed += 1) {
  test(`seed ${seed}`, (t) => run(t, seed));
}
