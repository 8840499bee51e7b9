// A chat beside an Express application, on one port: who is signed in there (express-session) may open a WebSocket here.
// Open http://localhost:3000, sign in with any name, talk. PORT=0 takes any port.

import http from 'node:http';
import express from 'express';
import session from 'express-session';
import { Server, accept, reject } from 'wsguard';

const port = Number(process.env.PORT ?? 3000);
const app = express();
const sessions = session({ secret: 'change me', resave: false, saveUninitialized: false, cookie: { sameSite: 'lax' } });
app.use(sessions, express.urlencoded());

app.post('/login', (request, response) => {
  request.session.user = String(request.body.name).slice(0, 32);
  response.redirect('/');
});
app.get('/', (request, response) => response.send(page(request.session.user)));

/** The session of an opening handshake: express-session reads its cookie as it would from any request. */
function sessionOf({ headers, url }) {
  const request = { headers, url, originalUrl: url, connection: {} };
  const response = { setHeader() {}, getHeader() {}, end() {}, writeHead() {} };
  return new Promise((resolve, fail) => {
    sessions(request, response, (error) => (error ? fail(error) : resolve(request.session)));
  });
}

const httpServer = http.createServer(app);
httpServer.listen(port, '127.0.0.1', () => {
  const { port: real } = httpServer.address();
  serve([`http://localhost:${real}`, `http://127.0.0.1:${real}`]);
  console.log(`listening on 127.0.0.1:${real}`);
});

function serve(origins) {
  const server = new Server({
    origins,
    auth: 'callback',
    async authenticate(request) {
      const { user } = await sessionOf(request);
      return user ? accept({ user }) : reject(401);
    },
    events: { say: { schema: { type: 'object', properties: { text: { type: 'string', maxLength: 500 } }, required: ['text'] } } },
  });
  server.on('open', (conn) => {
    conn.join('lobby');
    server.to('lobby').emit('joined', { user: conn.user });
  });
  server.on('say', (conn, { text }) => server.to('lobby').emit('said', { from: conn.user, text }));
  server.on('violation', ({ code, detail, ip }) => console.warn(`refused ${ip}: ${code} (${detail})`));
  server.attach(httpServer, { path: '/chat' });
  process.on('SIGTERM', async () => {
    httpServer.close();
    await server.drain();
    httpServer.closeAllConnections();
  });
}

function page(user) {
  if (!user) return '<form method="post" action="/login"><input name="name" autofocus> <button>Sign in</button></form>';
  return `<ul id="log"></ul><form id="form"><input id="text" autofocus></form><script>
    const ws = new WebSocket(location.origin.replace(/^http/, 'ws') + '/chat');
    ws.onmessage = ({ data }) => {
      const line = document.createElement('li');
      line.textContent = data;
      log.append(line);
    };
    form.onsubmit = () => {
      ws.send(JSON.stringify({ event: 'say', data: { text: text.value } }));
      text.value = '';
      return false;
    };
  </script>`;
}
