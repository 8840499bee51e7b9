import testing from './index.js';

export const { connect, makeClosing, makeConnection, makeMeta, makeRequest } = testing;
export default testing;
