// `wsguard/ws` of this repository, for the applications that are measured on both sides.

/** What an application imports instead of `ws`. */
export const DROP_IN = new URL('../../../bindings-node/ws/index.mjs', import.meta.url);

/** A policy as JavaScript spells it. */
export function camel(value) {
  if (Array.isArray(value)) return value.map(camel);
  if (value === null || typeof value !== 'object') return value;
  const spelled = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [spelled(name), camel(one)]));
}
