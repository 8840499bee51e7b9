'use strict';
// The rules of messages that JavaScript must know: the events by number, and for each route its Standard Schemas.

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

  /** `top`, `routes`: as `readOptions` gives them. `events`: the names by number. */
  constructor(top, routes, events) {
    this.replace(top, routes, events);
  }

  replace(top, routes, events) {
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

  /** The rules that a path has now; `routeOf` finds its route. */
  ofPath(path, routeOf) {
    return this.#isUniform ? this.#top : this.of(routeOf(path));
  }

  /** The Standard Schemas by the number of their event. */
  #numbered({ isRaw, enforces, validators, answered }) {
    return { isRaw, enforces, answered, validators: this.events.map((name) => validators.get(name)) };
  }
}

module.exports = { Contract };
