// Everything at once, through this face's own API: several workers, each with a server whose handlers do what they like and
// peers that do what they like. Afterwards everything that was taken is given back.
// WSGUARD_CHAOS_SEED repeats a run as far as threads allow, WSGUARD_CHAOS_SECONDS makes it longer.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { fixture } from './harness.mjs';

const seed = Number(process.env.WSGUARD_CHAOS_SEED ?? Date.now() % 2 ** 31);
const seconds = Number(process.env.WSGUARD_CHAOS_SECONDS ?? 6);

test(`chaos (seed ${seed})`, { timeout: (seconds + 120) * 1000 }, async (t) => {
  const runs = [false, true, false].map(async (isRaw, at) => {
    const worker = new Worker(fixture('chaos.mjs'), { workerData: { seed: seed + at, ms: seconds * 1000, isRaw } });
    t.after(() => worker.terminate());
    const exited = new Promise((resolve) => worker.once('exit', resolve));
    const [{ problems, done }] = await once(worker, 'message');
    assert.deepEqual(problems, [], `seed ${seed}, worker ${at}`);
    for (const [what, count] of Object.entries(done)) assert.ok(count > 0, `worker ${at}: ${what} ${count}`);
    // It ends by itself: nothing holds it.
    assert.equal(await exited, 0);
  });
  await Promise.all(runs);
});
