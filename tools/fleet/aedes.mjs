// The broker aedes with one user: node aedes.mjs PORT, with MODULES, FLEET_USER and FLEET_PASSWORD in the environment.
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { pathToFileURL } from 'node:url';

const resolve = createRequire(process.env.MODULES + '/').resolve;
const { Aedes } = await import(pathToFileURL(resolve('aedes')).href);
const broker = await Aedes.createBroker();
broker.authenticate = (_client, user, password, done) => {
  const known = user === process.env.FLEET_USER && String(password) === process.env.FLEET_PASSWORD;
  const refusal = Object.assign(new Error('bad user name or password'), { returnCode: 4 });
  done(known ? null : refusal, known);
};
createServer(broker.handle).listen(Number(process.argv[2]), '127.0.0.1');
