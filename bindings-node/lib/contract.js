'use strict';
// The rules of messages that JavaScript must know: the events by number, and for each route its Standard Schemas.

/** A message that was judged longer ago is judged by the rules of now. */
const MOST_EARLIER = 8;

class Contract {
  /** The events of the top and of every route by number; a reload adds to them, and a name keeps its number. */
  events = [];
  /** Whether some path has the protocol `raw`, and whether some has `json`. */
  hasRaw = false;
  hasJson = false;
  /** Whether routes have rules that differ. */
  #isUniform = true;
  #top;
  #routes = new Map();
  #generation = 1;
  /** What was before the latest reloads, latest last: messages that were judged by it may still come. */
  #earlier = [];

  /** `top`, `routes`: as `readOptions` gives them. `events`: the names by number. */
  constructor(top, routes, events) {
    this.#set(top, routes, events);
  }

  /** A reload: `generation` is what the core counts it as. */
  replace(top, routes, events, generation) {
    const [before, routesBefore] = [this.#top, this.#routes];
    this.#earlier = [...this.#earlier.slice(1 - MOST_EARLIER), { generation: this.#generation, of: (route) => routesBefore.get(route) ?? before }];
    this.#generation = generation;
    this.#set(top, routes, events);
  }

  #set(top, routes, events) {
    this.events.push(...events.slice(this.events.length));
    this.#top = this.#numbered(top);
    this.#routes = new Map([...routes].map(([path, rules]) => [path, this.#numbered(rules)]));
    const all = [this.#top, ...this.#routes.values()];
    this.#isUniform = this.#routes.size === 0;
    this.hasRaw = all.some(({ isRaw }) => isRaw);
    this.hasJson = all.some(({ isRaw }) => !isRaw);
  }

  /** The rules of connections of a route; null: the path is none. */
  of(route) {
    return this.#routes.get(route) ?? this.#top;
  }

  /** The rules of connections of a route as they were in a generation; those of now, if that is long ago. */
  ofGeneration(generation, route) {
    return this.#earlier.find((earlier) => earlier.generation === generation)?.of(route) ?? this.of(route);
  }

  /** The rules that a path has now; `routeOf` finds its route. */
  ofPath(path, routeOf) {
    return this.#isUniform ? this.#top : this.of(routeOf(path));
  }

  /** The Standard Schemas by the number of their event. */
  #numbered({ isRaw, enforces, validators, answered }) {
    const generation = this.#generation;
    return { generation, isRaw, enforces, answered, validators: this.events.map((name) => validators.get(name)) };
  }
}

module.exports = { Contract, MOST_EARLIER };
