export * from './index.js';
import * as testing from './index.js';
export default testing;
