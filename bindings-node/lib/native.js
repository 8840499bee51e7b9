'use strict';
// Finds the addon: the file beside the package (built from source), else the package of this platform.

const { closeSync, openSync, readFileSync, readSync } = require('node:fs');
const path = require('node:path');

/** The platform as packages are named: `linux-x64-gnu`, `linux-arm64-musl`, `darwin-arm64`, `win32-x64-msvc`. */
function platform() {
  const { platform: system, arch } = process;
  if (system === 'win32') return `${system}-${arch}-msvc`;
  if (system !== 'linux') return `${system}-${arch}`;
  return `${system}-${arch}-${isMusl() ? 'musl' : 'gnu'}`;
}

/** Which C library Node runs on: its own file names the loader near its beginning. The report is slow, and looks up sockets. */
function isMusl() {
  const loader = /\/ld-(musl|linux)[-.\w]*/.exec(beginning(process.execPath))?.[1];
  if (loader !== undefined) return loader === 'musl';
  const { report } = process;
  if (report === undefined) return false;
  const before = report.excludeNetwork;
  report.excludeNetwork = true;
  try {
    return !report.getReport().header.glibcVersionRuntime;
  } finally {
    report.excludeNetwork = before;
  }
}

function beginning(file) {
  let descriptor;
  try {
    descriptor = openSync(file, 'r');
    const bytes = Buffer.alloc(4096);
    return bytes.latin1Slice(0, readSync(descriptor, bytes, 0, bytes.length, 0));
  } catch {
    return '';
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/** Where a build from source is put. */
function localFile() {
  return path.join(__dirname, '..', `wsguard.${platform()}.node`);
}

function load() {
  for (const place of [localFile(), packageName()]) {
    try {
      return require(place);
    } catch (error) {
      if (error.code !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  const error = new Error(`wsguard has no addon for ${platform()}: neither ${localFile()} nor ${packageName()} is there. ${remedy()}`);
  error.code = 'addon_missing';
  throw error;
}

/** The package that has the addon for this platform. */
function packageName() {
  return `@wsguard/${platform()}`;
}

/** What whoever reads the error can do; a bundle has this code, but not this package's manifest beside it. */
function remedy() {
  const { optionalDependencies: packages, version } = manifest();
  if (version === undefined) {
    return (
      'In a bundle: the addon is a file that no bundler can take in. Keep wsguard external (esbuild --external:wsguard, webpack ' +
      'externals, serverExternalPackages of Next.js), and install it where the bundle runs'
    );
  }
  const build = 'build it from a clone of the repository: bindings-node/build.sh (needs Rust)';
  if (packages === undefined) return `In a clone, ${build}`;
  if (!(packageName() in packages)) return `There are packages for ${Object.keys(packages).join(', ')}; for another platform, ${build}`;
  return (
    `${packageName()} is an optional dependency of wsguard. Install without --omit=optional or --no-optional, on the platform ` +
    `where it runs (not from a node_modules of another one); or add it: npm install ${packageName()}@${version}`
  );
}

function manifest() {
  try {
    const read = JSON.parse(readFileSync(path.join(__dirname, '..', 'package.json'), 'utf8'));
    return read.name === 'wsguard' ? read : {};
  } catch {
    return {};
  }
}

module.exports = { load, localFile, platform };
