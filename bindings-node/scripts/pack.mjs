// Packs what is published: `wsguard`, a package for each platform with its addon, and `@wsguard/client`.
//   pack.mjs FOLDER LICENCES PLATFORM:CPU:LIBC:ADDON…
//   pack.mjs --check                                      packs nothing, and says whether the packages hold what they should
// FOLDER gets the archives; LICENCES is the file with the licences of what is linked into the addon; for each platform its
// name (`linux-x64-gnu`), the `cpu` and `libc` by which npm chooses, and the built file.
// No package has an install script: npm, pnpm and Bun do not run those of dependencies.

import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const repository = path.join(root, '..');
const LICENCES = ['LICENSE-MIT', 'LICENSE-APACHE'];
const THIRD_PARTY = 'LICENSE-THIRD-PARTY.txt';
const own = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
// The one place that states it is the manifest of the workspace. A registry that trusts a workflow compares the two.
const [, REPOSITORY] = /^repository = "([^"]+)"/m.exec(readFileSync(path.join(repository, 'Cargo.toml'), 'utf8'));

/** The manifest that is published: exact versions of the addons, and nothing that only a clone needs. */
function published(manifest, directory, platforms) {
  const { scripts, devDependencies, ...kept } = manifest;
  const rest = { ...kept, repository: origin(directory) };
  if (platforms.length === 0) return rest;
  return { ...rest, optionalDependencies: Object.fromEntries(platforms.map(({ name }) => [`@wsguard/${name}`, manifest.version])) };
}

/** Where a package comes from, as npm writes it. */
function origin(directory) {
  return { type: 'git', url: `git+${REPOSITORY}.git`, directory };
}

function ofPlatform({ name, cpu, libc }) {
  const file = `wsguard.${name}.node`;
  return {
    name: `@wsguard/${name}`,
    version: own.version,
    description: `The addon of wsguard for ${name}; install wsguard, which asks for it`,
    license: own.license,
    repository: origin('bindings-node'),
    main: file,
    files: [file, THIRD_PARTY],
    engines: own.engines,
    os: [name.split('-')[0]],
    cpu: [cpu],
    libc: [libc],
  };
}

/** Lays a package out in `folder`: its manifest, the licences, and what is copied, as [from, to]. */
function layOut(folder, manifest, copies) {
  mkdirSync(folder, { recursive: true });
  const files = [...manifest.files, ...LICENCES];
  writeFileSync(path.join(folder, 'package.json'), `${JSON.stringify({ ...manifest, files }, null, 2)}\n`);
  const all = [...copies, ...LICENCES.map((name) => [path.join(repository, name), name])];
  for (const [from, to] of all) cpSync(from, path.join(folder, to), { recursive: true, dereference: true });
  return folder;
}

/** Every file that a manifest points to. */
function pointedTo(value) {
  if (typeof value === 'string') return [path.posix.normalize(value)];
  return Object.values(value ?? {}).flatMap(pointedTo);
}

/** Throws unless an archive has every file that its manifest promises, and nothing that runs at its installation. */
function verify(folder, packed) {
  const manifest = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const names = packed.files.map((file) => file.path);
  const { main, module, types, bin, exports } = manifest;
  const wanted = [...pointedTo({ main, module, types, bin, exports }), ...LICENCES, 'README.md'];
  const missing = wanted.filter((name) => !names.includes(name));
  if (missing.length > 0) throw new Error(`${manifest.name} has no ${missing.join(', ')}`);
  const foreign = names.filter((name) => /^(test|types-test|scripts|node_modules)\/|Cargo|binding\.gyp/.test(name));
  if (foreign.length > 0) throw new Error(`${manifest.name} has ${foreign.join(', ')}, which only a clone needs`);
  if (manifest.scripts !== undefined) throw new Error(`${manifest.name} has scripts: ${Object.keys(manifest.scripts).join(', ')}`);
  console.log(`${packed.filename}: ${names.length} files, ${Math.ceil(packed.size / 1024)} KiB`);
}

function layOutPlatform(stage, platform, licences) {
  const manifest = ofPlatform(platform);
  const readme = path.join(stage, `${platform.name}.md`);
  writeFileSync(readme, `# ${manifest.name}\n\n${manifest.description}.\n`);
  const copies = [[platform.addon, manifest.main], [licences, THIRD_PARTY], [readme, 'README.md']];
  return layOut(path.join(stage, platform.name), manifest, copies);
}

/** Packs everything into `out`; without `out` only looks what would be packed. */
function packAll(platforms, licences, out) {
  const stage = mkdtempSync(path.join(tmpdir(), 'wsguard-pack-'));
  try {
    const client = path.join(root, 'client');
    const ofClient = JSON.parse(readFileSync(path.join(client, 'package.json'), 'utf8'));
    const from = (folder, { files }) => files.map((name) => [path.join(folder, name), name]);
    const folders = [
      layOut(path.join(stage, 'wsguard'), published(own, 'bindings-node', platforms), from(root, own)),
      ...platforms.map((platform) => layOutPlatform(stage, platform, licences)),
      layOut(path.join(stage, 'client'), published(ofClient, 'bindings-node/client', []), from(client, ofClient)),
    ];
    const how = out === undefined ? ['--dry-run'] : ['--pack-destination', out];
    const answer = execFileSync('npm', ['pack', '--json', '--ignore-scripts', ...how, ...folders], { cwd: stage, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    JSON.parse(answer).forEach((packed, at) => verify(folders[at], packed));
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

const [out, licences, ...built] = process.argv.slice(2);
if (out === '--check') {
  const text = path.join(repository, 'LICENSE-MIT');
  packAll([{ name: 'linux-x64-gnu', cpu: 'x64', libc: 'glibc', addon: text }], text);
} else if (built.length === 0) {
  console.error('usage: pack.mjs FOLDER LICENCES PLATFORM:CPU:LIBC:ADDON…');
  process.exitCode = 2;
} else {
  const platforms = built.map((one) => {
    const [name, cpu, libc, ...addon] = one.split(':');
    return { name, cpu, libc, addon: addon.join(':') };
  });
  mkdirSync(out, { recursive: true });
  packAll(platforms, licences, path.resolve(out));
}
