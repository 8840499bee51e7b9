'use strict';

const { connect } = require('./client.js');
const { makeClosing, makeConnection, makeMeta, makeRequest } = require('./values.js');

module.exports = { connect, makeClosing, makeConnection, makeMeta, makeRequest };
