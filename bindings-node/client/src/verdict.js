// What a close or a refused handshake means for the next attempt. Pure: no clock, no socket, no chance.

/**
 * Whether another attempt may end better. Leaving (1001), a broken connection (1006), a failing or restarting server or
 * gateway (1011 to 1014): yes. What we did wrong (1002, 1003, 1007, 1009), a policy (1008) and what an application
 * closed on purpose (1000, 1005, 3000 to 4999): it would end the same way. Of the policy's reasons only those of the
 * moment pass: the token can be renewed, the network may be faster next time. Where the HTTP status of a refusal can be
 * read, that decides: faults and limits pass, and a 401 may be about an old token.
 */
export const isWorthAnother = ({ code, reason, status }, isTokenOld) =>
  status
    ? /^(5..|408|425|429)$/.test(status) || (status == 401 && isTokenOld)
    : /^(10(0[16]|1[1-4]) |1008 (session expired|message timeout|slow consumer)$)/.test(code + ' ' + reason);

/** Seconds of `Retry-After` in milliseconds, an hour at most; 0 for anything else. */
export const retryAfterMs = (seconds) => Math.min(Math.max(seconds * 1000, 0) || 0, 36e5);
