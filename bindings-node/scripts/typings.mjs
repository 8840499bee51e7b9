// Writes types/generated.d.ts from the core's sources: options with their documentation, verdicts, counters.
// `--check` only compares. The typings by hand (index.d.ts) build on it.

import { readFileSync, writeFileSync } from 'node:fs';

const core = new URL('../../core/src/', import.meta.url);
const proto = new URL('../../core/proto/src/', import.meta.url);
const target = new URL('../types/generated.d.ts', import.meta.url);
const source = (path, crate = proto) => readFileSync(new URL(path, crate), 'utf8');

/** Where each structure is, and what it is called here. */
const STRUCTURES = [
  ['config/options.rs', 'RateLimit', 'RateLimit'],
  ['config/options.rs', 'ControlRateLimit', 'ControlRateLimit'],
  ['config/options.rs', 'HandshakeRate', 'HandshakeRate'],
  ['config/options.rs', 'TlsOptions', 'TlsOptions'],
  ['contract/mod.rs', 'JsonLimits', 'JsonLimits'],
  ['auth/jwt.rs', 'JwtOptions', 'JwtOptions'],
  ['auth/tokens.rs', 'TokenEntry', 'TokenEntry'],
  ['config/options.rs', 'Options', 'PolicyOptions'],
];

/** Types that Rust and TypeScript name differently. */
const TYPES = {
  usize: 'number', u16: 'number', u32: 'number', u64: 'number', f64: 'number', bool: 'boolean', String: 'string',
  MissingOrigin: '"deny" | "allow"',
  Protocol: '"json" | "raw"',
  OnViolation: '"enforce" | "report"',
  RateKeyKind: '"user" | "ip" | "connection"',
  TlsVersion: '"1.2" | "1.3"',
  Auth: '"callback" | "none" | { tokens: TokenEntry[] } | { jwt: JwtOptions }',
  OneOrMany: 'string | string[]',
  Value: 'unknown',
  'BTreeMap<String, EventOptions>': 'Record<string, EventOptions>',
};
/** PEM files are often read as they are. */
const BUFFERS = new Set(['TlsOptions.cert', 'TlsOptions.key', 'TlsOptions.client_ca']);
/** Fields that have no default where the structure is given. */
const REQUIRED = new Set([
  'TlsOptions.cert', 'TlsOptions.key', 'JwtOptions.algorithms', 'TokenEntry.user', 'Options.origins', 'Options.auth',
]);
/** `origins` may be left out for the option that says why. */
const OPTIONAL = new Set(['Options.origins']);
/** Structures in which an undefined field is an error: it would leave out a check. */
const STATED = new Set(['TlsOptions', 'JwtOptions', 'TokenEntry']);
/** Where `null` means off; elsewhere it is no value. */
const NULLABLE = /`null` disables/;

/** Verdicts are called so in every language. */
const CODES = new Set([...source('verdict.rs').split('verdicts! {')[1].split('\n}')[0].matchAll(/ {4}\w+ = "(\w+)"/g)].map(([, code]) => code));

const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
/** Options as JavaScript spells them; without the numbers of a list that the package does not have. */
const respelled = (text) =>
  text
    .replace(/`([a-z]+(?:_[a-z0-9]+)+)`/g, (whole, name) => (CODES.has(name) ? whole : `\`${camel(name)}\``))
    .replace(/ \((?:THREATS )?[A-Z]\d+(?:(?:, | to )[A-Z]\d+)*(?:, ([^)]+))?\)/g, (_, rest) => (rest ? ` (${rest})` : ''));

function typeOf(rust) {
  const inner = /^(?:Option|Vec)<(.*)>$/.exec(rust)?.[1];
  if (rust.startsWith('Option<')) return typeOf(inner);
  if (rust.startsWith('Vec<')) return `${typeOf(inner)}[]`;
  return TYPES[rust] ?? rust;
}

function comment(lines, indent) {
  const text = lines.map((line) => respelled(line).replaceAll('*/', '*\u200b/'));
  if (text.length === 1) return `${indent}/** ${text[0]} */\n`;
  return `${indent}/**\n${text.map((line) => `${indent} * ${line}\n`).join('')}${indent} */\n`;
}

/** The documented fields of a structure. */
function fields(text, name) {
  const start = text.indexOf(`pub struct ${name} {`);
  if (start < 0) throw new Error(`there is no structure ${name} any more`);
  const body = text.slice(start, text.indexOf('\n}\n', start));
  const found = [];
  let doc = [];
  for (const line of body.split('\n').slice(1).map((line) => line.trim())) {
    const field = /^pub (\w+): (.+),$/.exec(line);
    if (line.startsWith('///')) doc.push(line.slice(3).trim());
    if (field) found.push({ name: field[1], type: field[2].replace('serde_json::Value', 'Value'), doc: doc.splice(0) });
  }
  return found;
}

function documentation(text, name) {
  const before = text.slice(0, text.indexOf(`pub struct ${name} {`)).trimEnd().split('\n');
  const lines = [];
  for (const line of before.reverse()) {
    if (line.startsWith('///')) lines.unshift(line.slice(3).trim());
    else if (!line.startsWith('#[')) break;
  }
  return lines;
}

function structure([path, name, called]) {
  const text = source(path);
  const lines = fields(text, name).map(({ name: field, type, doc }) => {
    const place = `${name}.${field}`;
    const optional = REQUIRED.has(place) && !OPTIONAL.has(place) ? '' : '?';
    const or = BUFFERS.has(place) ? ' | Uint8Array' : NULLABLE.test(doc.join(' ')) ? ' | null' : '';
    const absent = optional === '' || STATED.has(name) ? '' : ' | undefined';
    return `${comment(doc, '  ')}  ${camel(field)}${optional}: ${typeOf(type)}${or}${absent};\n`;
  });
  return `${comment(documentation(text, name), '')}export interface ${called} {\n${lines.join('')}}\n`;
}

function verdicts() {
  const table = source('verdict.rs').split('verdicts! {')[1].split('\n}')[0];
  const rows = [...table.matchAll(/((?: {4}\/\/\/ .*\n)+) {4}\w+ = ("\w+")/g)];
  const members = rows.map(([, doc, name]) => `${comment(doc.trim().split('\n').map((line) => line.replace(/^\s*\/\/\/ /, '')), '  ')}  | ${name}\n`);
  return `/** The stable verdict codes: why a handshake was refused, or a connection closed. */\nexport type VerdictCode =\n${members.join('')};\n`;
}

function stats() {
  const lines = fields(source('driver/stats.rs', core), 'Stats').filter(({ name }) => name !== 'verdicts');
  const members = lines.map(({ name, doc }) => `${comment(doc, '  ')}  ${camel(name)}: number;\n`);
  return `/** A server's counters at one moment. */\nexport interface Stats {\n${members.join('')}  /** Verdicts by code. */\n  verdicts: Record<VerdictCode, number>;\n}\n`;
}

const head = '// Written by scripts/typings.mjs from the core; do not edit.\n\nimport type { EventOptions } from "../index.js";\n';
const text = [head, verdicts(), stats(), ...STRUCTURES.map(structure)].join('\n');

if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== text) {
    console.error('types/generated.d.ts is not what the core says; run: npm run typings');
    process.exitCode = 1;
  }
} else writeFileSync(target, text);
