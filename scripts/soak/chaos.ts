/** What goes wrong while processes lock in Redis. */

import { setTimeout as sleep } from "node:timers/promises";

/** Milliseconds for which a process is stopped. */
const STOPPED = 3000;

/** Milliseconds from one mishap to the next, on average. */
const PAUSE = 200;

/** How soon a process has to know that its connection ended. */
const KNOWN = 2000;

const any = (list) => list[Math.floor(Math.random() * list.length)];
const isSession = (name) => name.startsWith("portalock-");

/** Connections that have locks or want them; those that have, if there are. */
async function clientsOf(server) {
  const list = String(await server.command("CLIENT", "LIST"));
  const clients = [...list.matchAll(/^id=(\d+) .* name=(\S+) /gm)]
    .map(([, id, name]) => ({ id, name }))
    .filter(({ name }) => isSession(name) || name.startsWith("soak"));
  const inside = [
    ...await server.command("HVALS", "witness:soak"),
    ...await server.command("HVALS", "witness:soak-rw"),
  ].map((value) => value.replace(/.*:session:/, "portalock-"));
  const holders = clients.filter(({ name }) => inside.includes(name));
  return holders.length > 0 ? holders : clients;
}

/** Mishaps, each as often as the number says. */
const MISHAPS = [
  ["kills", 3, async (run) => {
    const one = any([...run.running].filter(({ stopped }) => !stopped));
    if (!one) return;
    await run.kill(one);
    run.start(one.name);
  }],
  ["stops", 1, (run) => {
    const one = any([...run.running].filter(({ stopped }) => !stopped));
    if (!one) return;
    const record = { pid: one.child.pid, from: Date.now(), to: Infinity };
    run.stopped.push(record);
    one.stopped = true;
    one.child.kill("SIGSTOP");
    return {
      later: sleep(STOPPED).then(() => {
        one.child.kill("SIGCONT");
        one.stopped = false;
        record.to = one.heard = Date.now();
      }),
    };
  }],
  ["disconnections", 8, async (run, killed) => {
    const client = any(await clientsOf(run.server));
    if (!client) return;
    const at = Date.now();
    const { id, name } = client;
    const count = await run.server.command("CLIENT", "KILL", "ID", id);
    if (count === 1 && isSession(name)) {
      killed.set(name.slice("portalock-".length), at);
    }
  }],
  ["forgotten scripts", 4, (run) => run.server.command("SCRIPT", "FLUSH")],
  ["server restarts", 0.5, (run) => run.server.restart()],
];

/** Lets things go wrong until it is over; returns how often each did. */
export async function chaos(run, isOver) {
  const done = Object.fromEntries(MISHAPS.map(([name]) => [name, 0]));
  const killed = new Map();
  const later = [];
  while (!isOver() && run.problems.length < 10) {
    await sleep(Math.random() * 2 * PAUSE);
    const [name, , mishap] = picked();
    const result = await mishap(run, killed);
    if (result?.later) later.push(result.later);
    done[name]++;
    run.watch();
  }
  await Promise.all(later);
  await sleep(KNOWN);
  return { ...done, ...announcements(run, killed) };
}

function picked() {
  const sum = MISHAPS.reduce((total, [, weight]) => total + weight, 0);
  let at = Math.random() * sum;
  return MISHAPS.find(([, weight]) => (at -= weight) < 0);
}

/** How soon holders knew that their connection had been ended. */
function announcements(run, killed) {
  const delays = run.losses.filter(([session]) => killed.has(session))
    .map(([session, at]) => ({ at, delay: at - killed.get(session) }))
    .filter(({ at, delay }) =>
      !run.stopped.some(({ from, to }) => from < at && at - delay < to)
    ).map(({ delay }) => delay).sort((a, b) => a - b);
  const latest = delays.at(-1) ?? 0;
  if (latest > KNOWN) run.problems.push(`a loss was known after ${latest} ms`);
  return {
    losses: run.losses.length,
    disconnected: delays.length,
    "known after ms, median": Math.round(delays[delays.length >> 1] ?? 0),
    "at most": Math.round(latest),
  };
}
