import wsguard from './index.js';

export const { Server, accept, logToStderr, reject } = wsguard;
export default wsguard;
