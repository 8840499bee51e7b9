'use strict';
// How a connection's end is told: close codes, and the errors of `ws` for frames that break a rule.

const { isUint8Array } = require('node:util').types;
const zlib = require('node:zlib').constants;

/**
 * Which framing rule was broken, by the core's name: the error's class, message, code, and zlib's number where `ws` has its error from
 * zlib. Some messages end with the number that broke the rule.
 */
const FAULTS = {
  invalid_opcode: [RangeError, 'Invalid WebSocket frame: invalid opcode', 'WS_ERR_INVALID_OPCODE'],
  reserved_bits_1: [RangeError, 'Invalid WebSocket frame: RSV1 must be clear', 'WS_ERR_UNEXPECTED_RSV_1'],
  reserved_bits_2_3: [RangeError, 'Invalid WebSocket frame: RSV2 and RSV3 must be clear', 'WS_ERR_UNEXPECTED_RSV_2_3'],
  expected_fin: [RangeError, 'Invalid WebSocket frame: FIN must be set', 'WS_ERR_EXPECTED_FIN'],
  expected_mask: [RangeError, 'Invalid WebSocket frame: MASK must be set', 'WS_ERR_EXPECTED_MASK'],
  control_too_long: [RangeError, 'Invalid WebSocket frame: invalid payload length', 'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH'],
  bad_close_code: [RangeError, 'Invalid WebSocket frame: invalid status code', 'WS_ERR_INVALID_CLOSE_CODE'],
  bad_close_payload: [RangeError, 'Invalid WebSocket frame: invalid payload length', 'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH'],
  bad_utf8: [Error, 'Invalid WebSocket frame: invalid UTF-8 sequence', 'WS_ERR_INVALID_UTF8'],
  length_not_minimal: [RangeError, 'Invalid WebSocket frame: invalid payload length', 'WS_ERR_INVALID_PAYLOAD_LENGTH'],
  length_too_long: [RangeError, 'Unsupported WebSocket frame: payload length > 2^53 - 1', 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH'],
  message_too_big: [RangeError, 'Max payload size exceeded', 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH'],
  too_many_fragments: [RangeError, 'Too many message fragments', 'WS_ERR_TOO_MANY_BUFFERED_PARTS'],
  bad_compression: [Error, 'invalid compressed data', 'Z_DATA_ERROR', zlib.Z_DATA_ERROR],
};

/** The error that `ws` emits for this fault; undefined: it has none. `value`: the opcode, length or code that broke the rule, or null. */
function faultError(fault, value) {
  if (!Object.hasOwn(FAULTS, fault ?? '')) return undefined;
  const [kind, message, code, errno] = FAULTS[fault];
  const error = new kind(value === null ? message : `${message} ${value}`);
  error.code = code;
  if (errno !== undefined) error.errno = errno;
  return error;
}

/** Whether a close frame may have this code (RFC 6455 section 7.4). */
function isCode(code) {
  return (code >= 1000 && code <= 1014 && code !== 1004 && code !== 1005 && code !== 1006) || (code >= 3000 && code <= 4999);
}

/** Checks the arguments of `close`. Returns the code (1005: a close frame that has none) and the reason as text. */
function closeArguments(code, data) {
  if (code === undefined) return [1005, ''];
  if (typeof code !== 'number' || !isCode(code)) throw new TypeError('First argument must be a valid error code number');
  if (data === undefined || !data.length) return [code, ''];
  const isText = typeof data === 'string';
  if ((isText ? Buffer.byteLength(data) : data.length) > 123) throw new RangeError('The message must not be greater than 123 bytes');
  if (!isText && !isUint8Array(data)) throw new TypeError('Second argument must be a string or a Uint8Array');
  // A reason is text; what is none in the bytes becomes U+FFFD, which is longer.
  const text = isText ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString();
  return [code, Buffer.byteLength(text) > 123 ? '' : text];
}

module.exports = { closeArguments, faultError };
