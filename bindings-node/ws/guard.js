'use strict';
// The server with a policy built in, for libraries that make the server themselves.

const { failure } = require('../lib/errors.js');
const { WebSocketServer } = require('./server.js');

function guard(policy) {
  if (policy === null || typeof policy !== 'object') {
    throw failure('invalid_argument', `guard takes a policy, got ${policy === null ? 'null' : typeof policy}`);
  }
  return class WebSocketServerWithPolicy extends WebSocketServer {
    constructor(options, callback) {
      if (options?.policy !== undefined) {
        throw failure('contradiction', 'policy: this class has one already, from guard(policy)', 'policy');
      }
      super({ ...options, policy }, callback);
    }
  };
}

module.exports = { guard };
