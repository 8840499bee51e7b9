// The same from CommonJS.
import wsguard = require('wsguard');

const server = new wsguard.Server<{ echo: string }>({ origins: [], auth: 'none', events: { echo: {} } });
server.on('echo', (conn, data) => conn.emit('echo', data.toUpperCase()));
