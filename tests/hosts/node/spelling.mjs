// The contract's spelling of options (snake_case) as Node's (camelCase), and back. Every name has exactly one image, so
// that a name which is no option is refused under the name it came with.

const camel = (name) => name.replace(/[A-Z]|_[a-z]/g, (part) => (part.length === 1 ? `_${part}` : part[1].toUpperCase()));
const snake = (name) => name.replace(/_[A-Z]|[A-Z]/g, (part) => (part.length === 2 ? part[1] : `_${part.toLowerCase()}`));

/** Names below these are the application's own. */
const OWN = new Set(['schema', 'keys', 'key']);

/** What these hold has names of the application's own. */
const NAMED = new Set(['events', 'routes']);

function renamed(value) {
  if (Array.isArray(value)) return value.map(renamed);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [camel(name), inside(name, item)]));
}

function inside(name, value) {
  if (OWN.has(name)) return value;
  if (!NAMED.has(name) || value === null || typeof value !== 'object' || Array.isArray(value)) return renamed(value);
  return Object.fromEntries(Object.entries(value).map(([own, item]) => [own, renamed(item)]));
}

export const camelOptions = renamed;

/** The path of an option as the contract spells it. */
export function snakePath(path) {
  const [, route, rest] = /^(routes\.\/[^.]*\.?)(.*)$/.exec(path) ?? [];
  if (route !== undefined) return route + snakePath(rest);
  // The name of an event is the application's.
  const [, event, detail] = /^(events\..+\.)([A-Za-z]+)$/.exec(path) ?? [];
  if (event !== undefined) return event + snake(detail);
  return path?.startsWith('events.') ? path : path?.split('.').map(snake).join('.');
}
