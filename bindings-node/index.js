'use strict';

const { Server } = require('./lib/server.js');
const { accept, acceptAnonymous, reject } = require('./lib/authenticate.js');
const { logTo, logToStderr } = require('./lib/log.js');

module.exports = { Server, accept, acceptAnonymous, logTo, logToStderr, reject };
