// What `connect` is given: names, defaults, and what cannot be meant.

const DEFAULTS = {
  // `toString` is no option.
  __proto__: null,
  token: null,
  tokenAs: 'subprotocol',
  protocols: [],
  headers: null,
  WebSocket: null,
  signal: null,
  retry: null,
  probe: null,
  onError: (error) => console.error(error),
  requestTimeoutMs: 10e3,
  openTimeoutMs: 20e3,
  minDelayMs: 1e3,
  maxDelayMs: 30e3,
  refreshBeforeMs: 30e3,
  maxQueuedMessages: 32,
  maxQueuedBytes: 65536,
  maxMessageLength: 1048576,
};

export const wrong = (what) => {
  throw new TypeError(what);
};

/** The options with their defaults; throws for a name or a number that cannot be meant. */
export const optionsOf = (given) => {
  const options = { ...DEFAULTS };
  for (const name in given) {
    if (!(name in DEFAULTS)) wrong(name + ': no such option');
    options[name] = given[name] ?? DEFAULTS[name];
    if (DEFAULTS[name] > 0 && !(options[name] >= 0)) wrong(name + ': must be 0 or more');
  }
  if (!/^(subprotocol|header|query(:.+)?)$/.test(options.tokenAs)) wrong('tokenAs: no such place');
  return options;
};

/** An absolute ws or wss address; a page may give a path. */
export const addressOf = (url) => {
  const { href, hash } = new URL(url, globalThis.location?.href);
  const address = href.replace(/^http/, 'ws');
  if (hash || !/^wss?:/.test(address)) wrong('url: must be ws or wss');
  return address;
};
