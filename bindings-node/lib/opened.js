'use strict';
// What is known of a connection since its handshake. It never changes.

class Opened {
  /** A list, as src/json.rs writes it. */
  #told;
  #roles;
  #params;

  constructor(told) {
    this.#told = told;
  }

  get id() {
    return this.#told[0];
  }

  get ip() {
    return this.#told[1];
  }

  get user() {
    return this.#told[2];
  }

  get path() {
    return this.#told[3];
  }

  get subprotocol() {
    return this.#told[4];
  }

  get roles() {
    return (this.#roles ??= Object.freeze(this.#told[8]));
  }

  get route() {
    return this.#told[9];
  }

  get params() {
    return (this.#params ??= Object.freeze(fieldsOf(this.#told[10])));
  }
}

/** An object of pairs that has no other fields; of several with one name the first. */
function fieldsOf(pairs) {
  const fields = Object.create(null);
  for (const [name, value] of pairs) fields[name] ??= value;
  return fields;
}

module.exports = { Opened, fieldsOf };
