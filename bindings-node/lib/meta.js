'use strict';

/** What comes with a message beside its data. */
class Meta {
  constructor(event, id, status, bytes) {
    this.event = event;
    this.id = id;
    this.status = status;
    this.bytes = bytes;
  }
}

module.exports = { Meta };
