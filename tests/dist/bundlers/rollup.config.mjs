export default { input: 'server.mjs', output: { file: 'out/rollup.mjs' }, external: ['wsguard'] };
