// A token, when it ends and where it is sent. It is not verified here: that is the server's.

/** The text of what `token` gave: a text, or `{ token, expiresAtMs }`; undefined for none. */
const textOf = (given) => (typeof given == 'string' ? given : given?.token);

/** Unix epoch in milliseconds: as stated, else the `exp` of a JWT; undefined or NaN where nothing says. */
export const expiryOf = (given) => {
  try {
    return given.expiresAtMs ?? JSON.parse(atob(textOf(given).split('.')[1].replace(/-/g, '+').replace(/_/g, '/'))).exp * 1000;
  } catch {}
};

/** What a WebSocket is made of: `[url, protocols, headers]`, with the token where `tokenAs` wants it. */
export const opening = (address, { protocols, headers, tokenAs }, given) => {
  const url = new URL(address);
  const token = textOf(given);
  if (token) {
    if (tokenAs == 'subprotocol') protocols = ['bearer', token, ...protocols];
    else if (tokenAs == 'header') headers = { ...headers, Authorization: 'Bearer ' + token };
    else url.searchParams.set(tokenAs.slice(6) || 'token', token);
  }
  return [url.href, protocols, headers];
};
