// What the typings promise. Lines that must not compile say so; tsc fails when one of them does.

import { ClientError, connect } from '@wsguard/client';
import type { Client, Closed, Sent, State } from '@wsguard/client';

const equal = <A, B>(..._same: [A] extends [B] ? ([B] extends [A] ? [] : [never]) : [never]): void => {};

// The map that `new Server<ClientToServer>` is given, and what the server emits.
interface ClientToServer {
  say: { text: string };
  ask: { what: string };
  leave: null;
}
interface ServerToClient {
  said: { user: string; text: string };
  ask: { answer: number };
  confirm: { question: string };
}

const client = connect<ServerToClient, ClientToServer>('wss://chat.example/', {
  token: async (isStale) => (isStale ? { token: 'new', expiresAtMs: 5 } : 'cached'),
  tokenAs: 'query:key',
  retry: ({ code }) => (code === 4001 ? true : undefined),
  probe: (url) => fetch(url),
});
equal<typeof client, Client<ServerToClient, ClientToServer>>();

client.on('said', ({ user, text }, { id }) => {
  equal<typeof user, string>();
  equal<typeof id, string | number | undefined>();
  // @ts-expect-error there is no such field
  text.nothing;
});
// @ts-expect-error the server sends no such event
client.on('shouted', () => {});
client.handle('confirm', async ({ question }) => question.length);
client.handle('confirm', null);

equal<ReturnType<typeof client.emit>, Sent>();
client.emit('say', { text: 'hello' });
client.emit('leave');
// @ts-expect-error text is missing
client.emit('say', {});
// @ts-expect-error data is missing
client.emit('say');
// @ts-expect-error the server knows no such event
client.emit('said', { user: '', text: '' });

// The answer has the type of the server's event of that name; another one must be stated.
equal<Awaited<ReturnType<typeof client.request<'ask'>>>, { answer: number }>();
equal<Awaited<ReturnType<typeof client.request<'say'>>>, unknown>();
void client.request('ask', { what: '' }, { timeoutMs: 5, signal: AbortSignal.timeout(5) });
// @ts-expect-error what is missing
void client.request('ask', {});

client.onState((state, { code, reason, delayMs, unsent }) => {
  equal<typeof state, State>();
  equal<typeof code, number | undefined>();
  equal<typeof reason, string | undefined>();
  equal<typeof delayMs, number | undefined>();
  equal<typeof unsent, number | undefined>();
});
equal<Awaited<typeof client.closed>, Closed>();

// Without maps anything goes.
const loose = connect('/chat');
loose.on('anything', (data) => data.of.it);
loose.emit('anything');
loose.emit('anything', { any: 1 });

// What is no option may be undefined.
connect('/', { token: undefined, signal: undefined, retry: undefined, requestTimeoutMs: undefined });
// @ts-expect-error there is no such option
connect('/', { tokn: '' });
// @ts-expect-error there is no such place
connect('/', { tokenAs: 'cookie' });

const error = new ClientError('failed', { data: { code: 'busy' } });
// @ts-expect-error no error is called so
if (error.code === 'lost') throw error;
