export * from './index.js';
import * as wsguard from './index.js';
export default wsguard;
