'use strict';
// What is known of a connection since its handshake. It never changes.

class Opened {
  /** A list, as src/json.rs writes it. */
  #told;
  #roles;
  #params;
  #query;
  #headers;
  #cookies;
  #claims;
  #tls;

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

  get queryString() {
    return this.#told[11];
  }

  get query() {
    return (this.#query ??= new URLSearchParams(this.#told[11] ?? ''));
  }

  get headers() {
    return (this.#headers ??= Object.freeze(joined(this.#told[12])));
  }

  get cookies() {
    return (this.#cookies ??= Object.freeze(fieldsOf(this.#told[13])));
  }

  get origin() {
    return this.#told[14];
  }

  get claims() {
    const text = this.#told[15];
    return (this.#claims ??= text === null ? null : JSON.parse(text));
  }

  get port() {
    return this.#told[16];
  }

  get tls() {
    return (this.#tls ??= this.#told[17] && Object.freeze(this.#told[17]));
  }

  get openedAtMs() {
    return this.#told[18];
  }

  get handshakeId() {
    return this.#told[19];
  }

  get reported() {
    return this.#told[20];
  }

  get compressed() {
    return this.#told[21];
  }
}

/** An object of pairs that has no other fields; of several with one name the first. */
function fieldsOf(pairs) {
  const fields = Object.create(null);
  for (const [name, value] of pairs) fields[name] ??= value;
  return fields;
}

/** Header fields as Node's `http` gives them: lower case, several of one name joined. */
function joined(headers) {
  const fields = Object.create(null);
  for (const [name, value] of headers) {
    const before = fields[name];
    fields[name] = before === undefined ? value : `${before}${name === 'cookie' ? '; ' : ', '}${value}`;
  }
  return fields;
}

module.exports = { Opened, fieldsOf, joined };
