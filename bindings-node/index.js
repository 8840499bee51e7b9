'use strict';

const { Server, logToStderr } = require('./lib/server.js');
const { accept, acceptAnonymous, reject } = require('./lib/authenticate.js');

module.exports = { Server, accept, acceptAnonymous, logToStderr, reject };
