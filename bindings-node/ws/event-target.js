'use strict';
// The EventTarget half of a WebSocket: `addEventListener` and the `on…` attributes, on top of the emitter.

const LISTENER = Symbol('listener');
const IS_ATTRIBUTE = Symbol('isAttribute');
const WITHIN = Symbol('within');

/** What a listener of `addEventListener` is given. Its fields are getters of the prototype, as browsers have them. */
class Event {
  constructor(type, fields = {}) {
    this[WITHIN] = { target: null, ...fields, type: String(type) };
  }

  get target() {
    return this[WITHIN].target;
  }

  get type() {
    return this[WITHIN].type;
  }
}

class CloseEvent extends Event {
  constructor(type, { code = 0, reason = '', wasClean = false, target = null } = {}) {
    super(type, { code, reason, wasClean, target });
  }

  get code() {
    return this[WITHIN].code;
  }

  get reason() {
    return this[WITHIN].reason;
  }

  get wasClean() {
    return this[WITHIN].wasClean;
  }
}

class ErrorEvent extends Event {
  constructor(type, { error = null, message = '', target = null } = {}) {
    super(type, { error, message, target });
  }

  get error() {
    return this[WITHIN].error;
  }

  get message() {
    return this[WITHIN].message;
  }
}

class MessageEvent extends Event {
  constructor(type, { data = null, target = null } = {}) {
    super(type, { data, target });
  }

  get data() {
    return this[WITHIN].data;
  }
}

const FIELDS = [
  [Event, ['target', 'type']],
  [CloseEvent, ['code', 'reason', 'wasClean']],
  [ErrorEvent, ['error', 'message']],
  [MessageEvent, ['data']],
];
for (const [kind, names] of FIELDS) {
  for (const name of names) Object.defineProperty(kind.prototype, name, { enumerable: true });
}

/** How the arguments of the emitter's event become an event object. */
const MAKE = {
  open: (target) => new Event('open', { target }),
  message: (target, data, isBinary) => new MessageEvent('message', { data: isBinary ? data : data.toString(), target }),
  close: (target, code, reason, wasClean) => new CloseEvent('close', { code, reason: reason.toString(), wasClean, target }),
  error: (target, error) => new ErrorEvent('error', { error, message: error.message, target }),
};

/** Adds a listener; the same one twice is one. `wasClean()` tells how a connection ended. */
function add(emitter, type, handler, { once = false } = {}, isAttribute = false, wasClean = () => false) {
  if (!Object.hasOwn(MAKE, type)) return;
  const isThere = (listener) => listener[LISTENER] === handler && !listener[IS_ATTRIBUTE];
  if (!isAttribute && emitter.listeners(type).some(isThere)) return;
  const make = MAKE[type];
  const wrapper = function (first, second) {
    call(handler, this, make(this, first, second, type === 'close' && wasClean()));
  };
  wrapper[LISTENER] = handler;
  wrapper[IS_ATTRIBUTE] = isAttribute;
  if (once) emitter.once(type, wrapper);
  else emitter.on(type, wrapper);
}

function remove(emitter, type, handler) {
  const found = emitter.listeners(type).find((listener) => listener[LISTENER] === handler && !listener[IS_ATTRIBUTE]);
  if (found !== undefined) emitter.removeListener(type, found);
}

/** The handler of `on…`, or null. */
function attribute(emitter, type) {
  return ofAttribute(emitter, type)?.[LISTENER] ?? null;
}

function setAttribute(emitter, type, handler, wasClean) {
  const before = ofAttribute(emitter, type);
  if (before !== undefined) emitter.removeListener(type, before);
  if (typeof handler === 'function') add(emitter, type, handler, {}, true, wasClean);
}

function ofAttribute(emitter, type) {
  return emitter.listeners(type).find((listener) => listener[IS_ATTRIBUTE]);
}

function call(handler, target, event) {
  if (typeof handler === 'object' && typeof handler?.handleEvent === 'function') handler.handleEvent(event);
  else handler.call(target, event);
}

module.exports = { CloseEvent, ErrorEvent, Event, MessageEvent, add, attribute, remove, setAttribute };
