// Nothing about wsguard: what is in node_modules stays external in a build for a server.
export default { build: { ssr: 'server.mjs', outDir: 'out', target: 'node20' } };
