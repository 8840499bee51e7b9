// Writes types/generated.d.ts: options from the core's table of them (core/proto/options.json), verdicts and counters from
// its sources. `--check` only compares. The typings by hand (index.d.ts) build on it.

import { readFileSync, writeFileSync } from 'node:fs';

const core = new URL('../../core/src/', import.meta.url);
const proto = new URL('../../core/proto/src/', import.meta.url);
const target = new URL('../types/generated.d.ts', import.meta.url);
const source = (path, crate = proto) => readFileSync(new URL(path, crate), 'utf8');

/** Every object of options, in the order of the core's table. */
const SECTIONS = JSON.parse(source('../options.json'));
const SECTION = new Map(SECTIONS.map((section) => [section.name, section]));
/** Written by hand: schemas have types here. */
const BY_HAND = new Set(['EventOptions']);
/** Objects in which an undefined field is an error: it would leave out a check. */
const GUARDED = new Set(['TlsOptions', 'JwtOptions', 'TokenEntry']);
/** Required, unless another option says why it is not there. */
const OPTIONAL = new Set(['Options.origins']);

/** Verdicts are called so in every language. */
const CODES = new Set([...source('verdict.rs').split('verdicts! {')[1].split('\n}')[0].matchAll(/ {4}\w+ = "(\w+)"/g)].map(([, code]) => code));

const camel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
/** Options as JavaScript spells them; without the numbers of a list that the package does not have. */
const respelled = (text) =>
  text
    .replace(/`([a-z]+(?:_[a-z0-9]+)+)`/g, (whole, name) => (CODES.has(name) ? whole : `\`${camel(name)}\``))
    .replace(/ \((?:THREATS )?[A-Z]\d+(?:(?:, | to )[A-Z]\d+)*(?:, ([^)]+))?\)/g, (_, rest) => (rest ? ` (${rest})` : ''));

/** The TypeScript of what an option accepts. */
function typeOf(option) {
  switch (option.type) {
    case 'flag': return 'boolean';
    case 'text': return 'string';
    case 'whole': case 'number': return 'number';
    case 'codes': case 'choice': return union(option.values);
    case 'list': return `${typeOf(option.item)}[]`;
    case 'map': return `Record<string, ${typeOf(option.item)}>`;
    case 'section': return option.section;
    case 'ways': return [union(option.values), ...SECTION.get(option.section).options.map((way) => `{ ${camel(way.name)}: ${typeOf(way)} }`)].join(' | ');
    case 'one_or_many': return 'string | string[]';
    case 'route': return 'RouteOptions';
    case 'any': return 'unknown';
    default: throw new Error(`${option.name}: no TypeScript is known for ${option.type}`);
  }
}

const union = (values) => values.map((value) => JSON.stringify(value)).join(' | ');

/** Its meaning, range and default. */
function meaning(option) {
  const range = option.range === undefined ? '' : ` From ${option.range}.`;
  const value = option.type === 'section' ? '' : ` Default: \`${option.default}\`.`;
  return option.doc + range + (option.required ? ' Required.' : option.absent ? ` Default: ${option.absent}.` : value);
}

function comment(lines, indent) {
  const text = lines.map((line) => respelled(line).replaceAll('*/', '*\u200b/'));
  if (text.length === 1) return `${indent}/** ${text[0]} */\n`;
  return `${indent}/**\n${text.map((line) => `${indent} * ${line}\n`).join('')}${indent} */\n`;
}

/** The documented fields of a Rust structure. */
function fields(text, name) {
  const start = text.indexOf(`pub struct ${name} {`);
  if (start < 0) throw new Error(`there is no structure ${name} any more`);
  const body = text.slice(start, text.indexOf('\n}\n', start));
  const found = [];
  let doc = [];
  for (const line of body.split('\n').slice(1).map((line) => line.trim())) {
    const field = /^pub (\w+): (.+),$/.exec(line);
    if (line.startsWith('///')) doc.push(line.slice(3).trim());
    if (field) found.push({ name: field[1], doc: doc.splice(0) });
  }
  return found;
}

function section({ name, doc, options }) {
  const lines = options.map((option) => {
    const isOptional = !option.required || OPTIONAL.has(`${name}.${option.name}`);
    // PEM files are often read as they are.
    const bytes = name === 'TlsOptions' && option.secret ? ' | Uint8Array' : '';
    const off = option.nullable && / null\b/.test(option.accepted) ? ' | null' : '';
    const absent = isOptional && !GUARDED.has(name) ? ' | undefined' : '';
    return `${comment(wrapped(meaning(option)), '  ')}  ${camel(option.name)}${isOptional ? '?' : ''}: ${typeOf(option)}${bytes}${off}${absent};\n`;
  });
  return `${comment(wrapped(doc), '')}export interface ${name === 'Options' ? 'PolicyOptions' : name} {\n${lines.join('')}}\n`;
}

/** A text in lines. */
function wrapped(text) {
  const lines = [''];
  for (const word of respelled(text).split(' ')) {
    const last = lines.at(-1);
    if (last.length + word.length > 110) lines.push(word);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines;
}

/** The objects that are interfaces of their own; the policy comes last, as it names the others. */
function sections() {
  const ways = new Set(SECTIONS.flatMap(({ options }) => options).filter(({ type }) => type === 'ways').map((option) => option.section));
  const [policy, ...others] = SECTIONS;
  return [...others.filter(({ name }) => !ways.has(name) && !BY_HAND.has(name)), policy].map(section);
}

/** The options that a route may not state. */
function processOptions() {
  const { options } = SECTION.get('Options');
  const names = union(options.filter(({ scope }) => scope === 'process').map(({ name }) => camel(name)));
  return `/** The options of the process: they stand at the top only, and no route may state them. */\nexport type ProcessOption = ${names};\n`;
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

const head = '// Written by scripts/typings.mjs from the core; do not edit.\n\nimport type { EventOptions, RouteOptions } from "../index.js";\n';
const text = [head, verdicts(), stats(), '// The options.\n', ...sections(), processOptions()].join('\n');

if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== text) {
    console.error('types/generated.d.ts is not what the core says; run: npm run typings');
    process.exitCode = 1;
  }
} else writeFileSync(target, text);
