'use strict';
// The options as one JSON text, and the schemas that have more to say than JSON Schema.

const { failure } = require('./errors.js');

/** What the server needs of `options`: the JSON for the core, the callback, Standard Schemas by event. */
function readOptions(options) {
  if (options === null || typeof options !== 'object' || Array.isArray(options)) {
    throw failure('invalid_option', 'options: must be an object', 'options');
  }
  const { authenticate, events, ...rest } = options;
  if (authenticate !== undefined && typeof authenticate !== 'function') {
    throw failure('invalid_option', 'authenticate: must be a function', 'authenticate');
  }
  checkCallback(authenticate, rest.auth);
  const validators = new Map();
  const policy = plain(rest, '');
  if (events !== undefined) policy.events = readEvents(events, validators);
  return { json: JSON.stringify(policy), authenticate, validators };
}

/** The callback is half of an option: one without the other is a mistake that would only show at a handshake. */
function checkCallback(authenticate, auth) {
  if (authenticate === undefined && auth === 'callback') {
    throw failure('missing_option', 'authenticate: auth: "callback" needs a function', 'authenticate');
  }
  if (authenticate !== undefined && auth !== 'callback') {
    throw failure('contradiction', 'authenticate: is only asked with auth: "callback"', 'authenticate');
  }
}

/** A copy that JSON can hold without loss: JSON.stringify would make `NaN` null, and null switches a limit off. */
function plain(value, path) {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value;
  if (typeof value === 'number') {
    if (Number.isFinite(value)) return value;
    throw failure('invalid_option', `${path}: must be a finite number, got ${value}`, path);
  }
  if (Buffer.isBuffer(value)) return value.toString('utf8');
  if (Array.isArray(value)) return value.map((item, index) => plain(item, `${path}[${index}]`));
  if (typeof value !== 'object') {
    throw failure('invalid_option', `${path}: must be JSON, got a ${typeof value}`, path);
  }
  if (typeof value.toJSON === 'function') return plain(value.toJSON(), path);
  const copy = {};
  for (const [name, item] of Object.entries(value)) {
    if (item !== undefined) define(copy, name, plain(item, path === '' ? name : `${path}.${name}`));
  }
  return copy;
}

/** Also for a name like `__proto__`. */
function define(object, name, value) {
  Object.defineProperty(object, name, { value, enumerable: true, writable: true, configurable: true });
}

function readEvents(events, validators) {
  if (events === null || typeof events !== 'object' || Array.isArray(events)) return plain(events, 'events');
  const read = {};
  for (const [name, event] of Object.entries(events)) {
    const path = `events.${name}`;
    const standard = event?.schema?.['~standard'];
    if (standard === undefined) {
      define(read, name, plain(event ?? {}, path));
      continue;
    }
    const { schema, ...rest } = event;
    const copy = plain(rest, path);
    copy.schema = plain(jsonSchemaOf(schema, `${path}.schema`), `${path}.schema`);
    define(read, name, copy);
    validators.set(name, standard);
  }
  return read;
}

const TARGET = { target: 'draft-2020-12' };

/** The JSON Schema behind a Standard Schema: the standard's own way, else the two spellings libraries have. */
function jsonSchemaOf(schema, path) {
  const standard = schema['~standard'];
  try {
    if (typeof standard.jsonSchema?.input === 'function') return standard.jsonSchema.input(TARGET);
    if (typeof schema.toJSONSchema === 'function') return schema.toJSONSchema({ ...TARGET, io: 'input' });
    if (typeof schema.toJsonSchema === 'function') return schema.toJsonSchema();
  } catch (error) {
    throw failure('invalid_option', `${path}: has no JSON Schema: ${error.message}`, path);
  }
  const vendor = String(standard.vendor);
  throw failure('invalid_option', `${path}: ${vendor} tells no JSON Schema; give a JSON Schema object`, path);
}

module.exports = { readOptions };
