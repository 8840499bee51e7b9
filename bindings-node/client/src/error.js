// The one class of error: `code` says which, and its words are the message. No message holds a token or what the server sent.

export class ClientError extends Error {
  /** `more`: `event`, `data` (what the server answered), `cause`. */
  constructor(code, more) {
    super(code.replace('_', ' '));
    Object.assign(this, { name: 'ClientError', code }, more);
  }
}
