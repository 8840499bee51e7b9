'use strict';
// npm's install script: nothing where the addon is there already; else, in a clone, a build from source.

const { existsSync } = require('node:fs');
const { spawnSync } = require('node:child_process');
const path = require('node:path');
const { localFile, platform } = require('../lib/native.js');

const root = path.join(__dirname, '..');

function isInstalled() {
  if (existsSync(localFile())) return true;
  try {
    require.resolve(`@wsguard/${platform()}`);
    return true;
  } catch {
    return false;
  }
}

function build() {
  if (!existsSync(path.join(root, 'Cargo.toml'))) {
    console.error(`wsguard: there is no prebuilt addon for ${platform()}, and this package has no sources to build one from`);
    return 1;
  }
  if (spawnSync('cargo', ['--version']).status !== 0) {
    console.error(`wsguard: no prebuilt addon for ${platform()}; building it needs Rust, and cargo was not found (see rustup.rs)`);
    return 1;
  }
  return spawnSync('bash', [path.join(root, 'build.sh'), '--addon-only'], { stdio: 'inherit' }).status ?? 1;
}

if (!isInstalled()) process.exitCode = build();
