'use strict';
// The names of options, which a policy has in camelCase or, from a file, in snake_case.

function snake(name) {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** The value of a policy's option, in either spelling. */
function valueOf(policy, name) {
  return policy[name] ?? policy[snake(name)];
}

/** Sets an option in the spelling that the policy has. */
function set(policy, name, value) {
  const other = snake(name);
  policy[other !== name && Object.hasOwn(policy, other) ? other : name] = value;
}

module.exports = { set, valueOf };
