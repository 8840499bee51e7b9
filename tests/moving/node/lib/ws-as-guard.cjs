// What stands in for wsguard/ws where a test proves itself: ws, which ignores the policy.
const ws = require('ws');

module.exports = Object.assign(ws, { guard: () => ws.WebSocketServer });
