'use strict';
// The numbers of records and commands, as src/records.rs and src/commands.rs state them.

/** Read once. The copy is an object that V8 reads fast, which one that the addon has filled is not. */
module.exports = { ...require('./native.js').load().recordNumbers() };
