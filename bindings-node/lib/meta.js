'use strict';

/** What comes with a message beside its data. */
class Meta {
  constructor(event, id, status, sizeBytes) {
    this.event = event;
    this.id = id;
    this.status = status;
    this.sizeBytes = sizeBytes;
  }
}

module.exports = { Meta };
