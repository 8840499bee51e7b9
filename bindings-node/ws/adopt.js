'use strict';
// Hands over the connections of Node's HTTP servers.

function checkAdoptable() {
  return true;
}

function adopt() {
  throw new Error('to come');
}

module.exports = { adopt, checkAdoptable };
