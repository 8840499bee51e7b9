import wsguard from './index.js';

export const { Server, accept, acceptAnonymous, logToStderr, reject } = wsguard;
export default wsguard;
