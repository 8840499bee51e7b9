'use strict';
// Turns the options into one JSON text for the core, and keeps Standard Schemas and the callback.

const { types } = require('node:util');
const { failure } = require('./errors.js');

/**
 * What the server needs of `options`: the JSON for the core, the callback, and the rules of messages at the top and by route:
 * protocol, whether a mismatch closes the connection, Standard Schemas by event.
 */
function readOptions(options) {
  if (!isPlain(options)) throw failure('invalid_option', `options: must be an object, got ${kindOf(options)}`, 'options');
  const { authenticate, events, routes, ...rest } = options;
  if (authenticate !== undefined && typeof authenticate !== 'function') {
    throw failure('invalid_option', `authenticate: must be a function, got ${kindOf(authenticate)}`, 'authenticate');
  }
  // A function that answers says how peers are authenticated.
  if (authenticate !== undefined && rest.auth === undefined) rest.auth = 'callback';
  const policy = plain(rest, '', new Set());
  const top = rulesOf(policy, events, '', undefined);
  const byPath = new Map();
  if (routes !== undefined) policy.routes = readRoutes(routes, top, byPath);
  checkCallback(authenticate, [policy, ...Object.values(policy.routes ?? {})]);
  return { json: JSON.stringify(policy), authenticate, top, routes: byPath };
}

/** The options of each route; puts its rules into `byPath`. */
function readRoutes(routes, top, byPath) {
  if (!isPlain(routes)) {
    throw failure('invalid_option', `routes: must be an object of options by path, got ${kindOf(routes)}`, 'routes');
  }
  const read = {};
  for (const [path, route] of Object.entries(routes)) {
    const at = `routes.${path}`;
    if (!isPlain(route)) throw failure('invalid_option', `${at}: must be an object of options, got ${kindOf(route)}`, at);
    if ('authenticate' in route) {
      throw failure('invalid_option', `${at}.authenticate: stands at the top only; it is told the path`, `${at}.authenticate`);
    }
    const { events, ...rest } = route;
    const policy = plain(rest, at, new Set());
    byPath.set(path, rulesOf(policy, events, `${at}.`, top));
    define(read, path, policy);
  }
  return read;
}

/**
 * The rules of a policy, to which it adds `events`; `top`: what counts where a route states nothing. `at` is the path of the
 * policy's options.
 */
function rulesOf(policy, events, at, top) {
  const { protocol = top?.protocol, onViolation = top?.onViolation } = policy;
  const { validators, answered } = top ?? { validators: new Map(), answered: new Set() };
  const rules = { protocol, onViolation, validators, answered, isRaw: protocol === 'raw', enforces: onViolation !== 'report' };
  if (events === undefined) return rules;
  rules.validators = new Map();
  policy.events = readEvents(events, rules.validators, `${at}events`);
  const answers = ([, event]) => event?.onMismatch === 'reply';
  rules.answered = new Set(Object.entries(policy.events).filter(answers).map(([name]) => name));
  return rules;
}

/** The callback is half of an option: one without the other is a mistake that would only show at a handshake. */
function checkCallback(authenticate, policies) {
  const isAsked = policies.some(({ auth }) => auth === 'callback');
  if (authenticate === undefined && isAsked) {
    throw failure('missing_option', 'authenticate: auth: "callback" needs a function', 'authenticate');
  }
  if (authenticate !== undefined && !isAsked) {
    throw failure('contradiction', 'authenticate: is only asked with auth: "callback"', 'authenticate');
  }
}

/** An object that holds what its own properties say: not a Map, nor an instance of a class that may keep more elsewhere. */
function isPlain(value) {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function kindOf(value) {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (value === undefined) return 'undefined';
  if (typeof value !== 'object') return `a ${typeof value}`;
  const { name } = value.constructor ?? {};
  return typeof name === 'string' && name !== '' ? `a ${name}` : 'an object of a class';
}

/**
 * A copy that JSON can hold without loss: JSON.stringify would make `NaN` null, and null switches a limit off. `within`:
 * the objects around it, none of which it may be again.
 */
function plain(value, path, within) {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return value;
    throw failure('invalid_option', `${path}: must be a finite number, got ${value}`, path);
  }
  if (types.isUint8Array(value)) return Buffer.from(value).toString('utf8');
  if (typeof value !== 'object') {
    throw failure('invalid_option', `${path}: must be JSON, got a ${typeof value}`, path);
  }
  if (within.has(value)) throw failure('invalid_option', `${path}: contains itself`, path);
  within.add(value);
  const copy = plainObject(value, path, within);
  within.delete(value);
  return copy;
}

function plainObject(value, path, within) {
  if (Array.isArray(value)) {
    return Array.from(value, (item, index) => plain(item, `${path}[${index}]`, within));
  }
  if (typeof value.toJSON === 'function') return plain(value.toJSON(), path, within);
  if (!isPlain(value)) throw failure('invalid_option', `${path}: must be a plain object, got ${kindOf(value)}`, path);
  const copy = {};
  for (const [name, item] of Object.entries(value)) {
    const at = path === '' ? name : `${path}.${name}`;
    if (item !== undefined) define(copy, name, plain(item, at, within));
    else if (GUARDED.test(at)) throw failure('invalid_option', `${at}: is undefined; leave it out, or give what it should be`, at);
  }
  return copy;
}

/** Below these what is not said is not checked: an issuer, a client's certificate. A slip must not leave it out. */
const GUARDED = /^(?:routes\..*\.)?(?:auth|tls)\./;

/** Also for a name like `__proto__`. */
function define(object, name, value) {
  Object.defineProperty(object, name, { value, enumerable: true, writable: true, configurable: true });
}

function readEvents(events, validators, at) {
  if (!isPlain(events)) {
    throw failure('invalid_option', `${at}: must be an object of events by name, got ${kindOf(events)}`, at);
  }
  const read = {};
  for (const [name, event] of Object.entries(events)) {
    const path = `${at}.${name}`;
    checkSchema(event, path);
    const standard = standardOf(event, path);
    if (standard === undefined) {
      define(read, name, plain(event, path, new Set()));
      continue;
    }
    const { schema, ...rest } = event;
    const copy = plain(rest, path, new Set());
    copy.schema = plain(jsonSchemaOf(schema, `${path}.schema`), `${path}.schema`, new Set());
    define(read, name, copy);
    validators.set(name, standard);
  }
  return read;
}

/** Without a schema any data is valid: that is said by leaving it out, not by a name that means nothing. */
function checkSchema(event, path) {
  const refuse = (at, value, what) => {
    throw failure('invalid_option', `${at}: must be ${what}, got ${kindOf(value)}`, at);
  };
  if (event === undefined || event === null) refuse(path, event, 'an object, {} for any data');
  if (typeof event !== 'object' || !('schema' in event)) return;
  if (event.schema === undefined || event.schema === null) refuse(`${path}.schema`, event.schema, 'a schema; leave it out for any data');
}

/** The Standard Schema of an event, if it has one, and where it belongs. */
function standardOf(event, path) {
  if (event?.['~standard'] !== undefined) {
    throw failure('invalid_option', `${path}: is a schema itself; put it under \`schema\`: { schema: … }`, path);
  }
  const standard = event?.schema?.['~standard'];
  if (standard !== undefined && typeof standard?.validate !== 'function') {
    throw failure('invalid_option', `${path}.schema: is no Standard Schema: it has no validate`, `${path}.schema`);
  }
  return standard;
}

const TARGET = { target: 'draft-2020-12' };

/** What those libraries offer whose schemas do not tell themselves. */
const ADVICE = {
  valibot: 'give toStandardJsonSchema(schema) of @valibot/to-json-schema',
  zod: 'give one of zod 4 (import from "zod", not "zod/mini" or "zod/v3"), or the JSON Schema itself',
};

const STATE_IT = 'state what is enforced natively as the schema\'s `~standard`.jsonSchema, and leave the rest to its validate';

/** Adds what can be done to an error about the JSON Schema behind one of the Standard Schemas of these options. */
function advise(error, { top, routes }) {
  const of = (at, { validators }) => [...validators.keys()].map((name) => `${at}events.${name}.schema`);
  const schemas = [...of('', top), ...[...routes].flatMap(([path, rules]) => of(`routes.${path}.`, rules))];
  const isTheirs = schemas.some((schema) => error.option?.startsWith(schema));
  if (isTheirs) error.message += `; ${STATE_IT}`;
  return error;
}

/** The JSON Schema behind a Standard Schema: the standard's own way, else the two spellings libraries have. */
function jsonSchemaOf(schema, path) {
  const standard = schema['~standard'];
  try {
    if (typeof standard.jsonSchema?.input === 'function') return standard.jsonSchema.input(TARGET);
    if (typeof schema.toJSONSchema === 'function') return schema.toJSONSchema({ ...TARGET, io: 'input' });
    if (typeof schema.toJsonSchema === 'function') return schema.toJsonSchema();
  } catch (error) {
    throw failure('invalid_option', `${path}: has no JSON Schema: ${error.message}; ${STATE_IT}`, path);
  }
  const vendor = String(standard.vendor);
  const advice = ADVICE[vendor] ?? 'give a JSON Schema object';
  throw failure('invalid_option', `${path}: this schema of ${vendor} tells no JSON Schema; ${advice}`, path);
}

module.exports = { advise, isPlain, readOptions };
