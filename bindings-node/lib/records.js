'use strict';
// The numbers of src/records.rs and src/commands.rs.

module.exports = {
  // Records: four words each.
  BINARY: 1,
  TEXT: 2,
  MESSAGE: 3,
  OPEN: 4,
  CLOSE: 5,
  UPGRADE: 6,
  VIOLATION: 7,
  DRAINED: 8,
  STOPPED: 9,
  KNOWN: 10,
  HAS_ID: 0x80000000,
  STATUS_OK: 0x40000000,
  STATUS_ERROR: 0x20000000,
  UNKNOWN_EVENT: 0x1fffffff,
  JSON_TEXT: 1,
  MORE: 0x100,
  // Commands.
  SEND_BINARY: 1,
  SEND_TEXT: 2,
  EMIT: 3,
  REPLY: 4,
  FAIL: 5,
  BROADCAST: 6,
  BROADCAST_TEXT: 7,
  BROADCAST_BINARY: 8,
};
