import wsguard from './index.js';

export const { Server, accept, acceptAnonymous, logTo, logToStderr, reject } = wsguard;
export default wsguard;
