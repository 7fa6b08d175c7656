// pg-boss with two workers that fetch in batches, one after the other without a pause while batches are full.
import pg from "pg";
import { PgBoss } from "pg-boss";
import { done, given, jobs, ready, work } from "./work.mjs";

const QUEUE = "send";
const WORKERS = 2;
const CHUNK = 5000;

const pool = new pg.Pool({ connectionString: given.dsn, max: 10 });
const query = (text, values) => pool.query(text, values);
const boss = new PgBoss({ connectionString: given.dsn, max: 10, supervise: false, schedule: false });
boss.on("error", () => {});
await boss.start();
await boss.createQueue(QUEUE);
const all = await jobs();
for (let at = 0; at < all.length; at += CHUNK) {
  await boss.insert(QUEUE, all.slice(at, at + CHUNK).map((data) => ({ data })));
}
await ready();
const options = { batchSize: Math.ceil(given.connections / WORKERS), pollingIntervalSeconds: 0.5, burstWhenBatchFull: true };
for (let n = 0; n < WORKERS; n += 1) {
  await boss.work(QUEUE, options, async (batch) => { await Promise.all(batch.map((job) => work(job.data, query))); });
}
await done();
