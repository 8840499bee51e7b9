// Two Duplexes: what one is written, the other reads.

import { Duplex } from 'node:stream';

class End extends Duplex {
  other;
  #continue;

  _read() {
    const go = this.#continue;
    this.#continue = undefined;
    go?.();
  }

  _write(chunk, _encoding, callback) {
    this.other.#continue = callback;
    this.other.push(chunk);
  }

  _final(callback) {
    this.other.push(null);
    callback();
  }
}

export function duplexPair() {
  const [one, two] = [new End(), new End()];
  [one.other, two.other] = [two, one];
  return [one, two];
}
