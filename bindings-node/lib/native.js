'use strict';
// Finds the addon: the file beside the package (built from source), else the package of this platform.

const path = require('node:path');

/** The platform as packages are named: `linux-x64-gnu`, `linux-arm64-musl`, `darwin-arm64`, `win32-x64-msvc`. */
function platform() {
  const { platform: system, arch } = process;
  if (system === 'win32') return `${system}-${arch}-msvc`;
  if (system !== 'linux') return `${system}-${arch}`;
  const musl = !process.report.getReport().header.glibcVersionRuntime;
  return `${system}-${arch}-${musl ? 'musl' : 'gnu'}`;
}

/** Where a build from source is put. */
function localFile() {
  return path.join(__dirname, '..', `wsguard.${platform()}.node`);
}

function load() {
  const tried = [];
  for (const place of [localFile(), `@wsguard/${platform()}`]) {
    try {
      return require(place);
    } catch (error) {
      if (error.code !== 'MODULE_NOT_FOUND') throw error;
      tried.push(place);
    }
  }
  const error = new Error(
    `wsguard has no addon for ${platform()}: neither ${tried.join(' nor ')} is there. ` +
      'Reinstall with optional dependencies, or build it from a clone: bindings-node/build.sh (needs Rust)',
  );
  error.code = 'addon_missing';
  throw error;
}

module.exports = { load, localFile, platform };
