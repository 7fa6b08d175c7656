// What every peer on Node does with a job: POST its body to the sink, store the wamid. Told what to do by one JSON argument:
// dsn, url, headers, connections, messages (0: jobs come one by one, and nothing is stored), and the statements of the store.
import pg from "pg";
import { Agent, fetch } from "undici";

export const given = JSON.parse(process.argv[2]);

const dispatcher = new Agent({ connections: given.connections });
let left = given.messages;
let began;
let cpu;
let end;
const ended = new Promise((resolve) => { end = resolve; });

export function tell(event, more = {}) {
  process.stdout.write(JSON.stringify({ event, ...more }) + "\n");
}

// A job's work: it is over when the wamid is committed. `query` is the peer's own way to ask the database.
export async function work({ row, body }, query) {
  const response = await fetch(given.url, { method: "POST", dispatcher, headers: given.headers, body });
  const wamid = (await response.json()).messages[0].id;
  if (given.messages === 0) return;
  await query(given.statements.sent, [row, wamid]);
  left -= 1;
  if (left === 0) {
    const spent = process.cpuUsage(cpu);
    end({ seconds: Number(process.hrtime.bigint() - began) / 1e9, cpu: (spent.user + spent.system) / 1e6 });
  }
}

// The jobs of the application's table: [{row, body}].
export async function jobs() {
  const client = new pg.Client({ connectionString: given.dsn });
  await client.connect();
  const { rows } = await client.query(given.statements.all);
  await client.end();
  return rows.map(({ id, body }) => ({ row: Number(id), body }));
}

// Say that all jobs are in the queue, and wait for the word to begin.
export async function ready() {
  tell("PEER_READY");
  await new Promise((resolve) => process.stdin.once("data", resolve));
  began = process.hrtime.bigint();
  cpu = process.cpuUsage();
}

// Until the last wamid is stored; what the peer writes afterwards for itself is not counted.
export async function done() {
  tell("PEER_DRAINED", await ended);
  process.exit(0);
}

// The end of whoever asked for this process is its own.
process.stdin.on("end", () => process.exit(0));
