'use strict';

const { Server, logToStderr } = require('./lib/server.js');
const { accept, reject } = require('./lib/authenticate.js');

module.exports = { Server, accept, logToStderr, reject };
