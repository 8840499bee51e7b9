// graphql-ws: queries and subscriptions. Its `useServer` takes our WebSocketServer as it takes that of ws. PORT=0 takes any port.

import { createServer } from 'node:http';
import { GraphQLInt, GraphQLObjectType, GraphQLSchema, GraphQLString } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'wsguard/ws';

const schema = new GraphQLSchema({
  query: new GraphQLObjectType({
    name: 'Query',
    fields: { who: { type: GraphQLString, resolve: (_, __, { user }) => user } },
  }),
  subscription: new GraphQLObjectType({
    name: 'Subscription',
    fields: {
      countdown: {
        type: GraphQLInt,
        args: { from: { type: GraphQLInt } },
        async *subscribe(_, { from }) {
          for (let countdown = from; countdown >= 0; countdown--) yield { countdown };
        },
      },
    },
  }),
});

const server = createServer();
const wss = new WebSocketServer({ server, path: '/graphql', policy: { origins: ['http://localhost:3000'], auth: 'none' } });
const graphql = useServer(
  {
    schema,
    onConnect: ({ connectionParams }) => connectionParams?.token === 'change-me',
    context: ({ connectionParams }) => ({ user: connectionParams.user }),
  },
  wss,
);

server.listen(Number(process.env.PORT ?? 4000), '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));
process.on('SIGTERM', async () => {
  await graphql.dispose();
  server.close();
});
