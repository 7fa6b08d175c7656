// graphile-worker as its documentation has it, with as many jobs at once as connections.
import { EventEmitter } from "node:events";
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { done, given, jobs, ready, tell, work } from "./work.mjs";

const CHUNK = 5000;
const logger = new Logger(() => () => {});

const utils = await makeWorkerUtils({ connectionString: given.dsn, logger });
await utils.migrate();
if (given.messages > 0) {
  const all = await jobs();
  for (let at = 0; at < all.length; at += CHUNK) {
    await utils.addJobs(all.slice(at, at + CHUNK).map((payload) => ({ identifier: "send", payload })));
  }
  await ready();
}
await utils.release();
const events = new EventEmitter();
const listening = new Promise((resolve) => events.once("pool:listen:success", resolve));
await run({
  connectionString: given.dsn,
  logger,
  events,
  concurrency: given.connections,
  maxPoolSize: 12,
  noHandleSignals: true,
  taskList: { send: (payload, helpers) => work(payload, helpers.query) },
});
if (given.messages > 0) await done();
await listening;
tell("PEER_READY");
