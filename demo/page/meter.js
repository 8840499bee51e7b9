// The round-trip meter: echoes of one chat's connection, as numbers and as a graph of the last half minute.

const WINDOW_MS = 30_000;
const LEAST_TOP_MS = 5;
const [WIDTH, HEIGHT] = [240, 48];

const shown = (ms) => (ms < 10 ? ms.toFixed(1) : Math.round(ms).toLocaleString("en"));

export class Meter {
  #asked = new Map();
  #last = 0;
  #samples = [];
  #bands = [];
  #answered = 0;
  #values;
  #graph;

  constructor(place) {
    place.append(document.getElementById("meter").content.cloneNode(true));
    this.#graph = place.querySelector(".graph");
    this.#values = (name) => place.querySelector(`[data-value=${name}]`);
  }

  /** A question is about to be sent: its number. */
  begin() {
    this.#last += 1;
    this.#asked.set(this.#last, performance.now());
    return this.#last;
  }

  /** The connection has ended: nothing that was asked on it is answered any more. */
  forget() {
    this.#asked.clear();
  }

  /** It was not sent. */
  give(number) {
    this.#asked.delete(number);
  }

  /** Its answer has come. */
  end(number) {
    const at = this.#asked.get(number);
    if (at === undefined) return;
    this.#asked.delete(number);
    this.#answered += 1;
    this.#samples.push({ at, ms: performance.now() - at });
  }

  /** An attack begins; the answer ends it. */
  mark() {
    const band = { from: performance.now(), to: Infinity };
    this.#bands.push(band);
    return () => (band.to = performance.now());
  }

  /** The highest round trip in sight, what is still waited for included. */
  highest() {
    const oldest = performance.now() - WINDOW_MS;
    this.#samples = this.#samples.filter(({ at }) => at > oldest);
    this.#bands = this.#bands.filter(({ to }) => to > oldest);
    const [waiting] = this.#asked.values();
    return Math.max(0, ...this.#samples.map(({ ms }) => ms), waiting ? performance.now() - waiting : 0);
  }

  /** Draws, with `top` as the upper end of the scale. */
  draw(top) {
    const now = performance.now();
    const x = (at) => (WIDTH * (1 - (now - at) / WINDOW_MS)).toFixed(1);
    // Logarithmic: a jump from 1 to 2 ms is seen beside one to 400.
    const y = (ms) => (HEIGHT - 2 - ((HEIGHT - 4) * Math.log1p(ms)) / Math.log1p(top)).toFixed(1);
    this.#graph.querySelector("polyline").setAttribute("points", this.#samples.map(({ at, ms }) => `${x(at)},${y(ms)}`).join(" "));
    const bands = this.#bands.map(({ from, to }) => {
      const band = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const [left, right] = [Math.max(0, x(from)), x(Math.min(to, now))];
      for (const [name, value] of Object.entries({ x: left, y: 0, width: Math.max(1.5, right - left), height: HEIGHT })) {
        band.setAttribute(name, value);
      }
      return band;
    });
    this.#graph.querySelector(".bands").replaceChildren(...bands);
    this.#tell(top);
  }

  #tell(top) {
    const sorted = this.#samples.map(({ ms }) => ms).sort((a, b) => a - b);
    const tell = (name, text) => (this.#values(name).textContent = text);
    tell("answered", this.#answered.toLocaleString("en"));
    tell("top", `logarithmic, to ${shown(top)} ms`);
    if (sorted.length === 0) return;
    tell("last", shown(this.#samples.at(-1).ms));
    tell("median", shown(sorted[sorted.length >> 1]));
    tell("worst", shown(sorted.at(-1)));
  }
}

/** Draws all meters again and again, on one scale, so that they can be compared. */
export function tellScale(meters) {
  const all = Object.values(meters);
  const draw = () => {
    const top = Math.max(LEAST_TOP_MS, ...all.map((meter) => meter.highest()));
    for (const meter of all) meter.draw(top);
  };
  setInterval(draw, 250);
  draw();
}
