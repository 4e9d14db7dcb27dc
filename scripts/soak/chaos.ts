/** Faults that happen while processes lock in Redis. */

import { setTimeout as sleep } from "node:timers/promises";
import type { ChildProcess } from "node:child_process";
import type { SoakServer } from "./server.ts";

/** For how long a process is stopped. */
const STOPPED_MS = 3000;

/** How soon a process must know that its connection ended. */
const MAX_DETECTION_MS = 2000;

/** More problems than this end the run. */
const MAX_PROBLEMS = 10;

/** What happens, and how often. */
export interface FaultPlan {
  /** From one fault to the next, on average, in milliseconds. */
  readonly pause: number;
  /** The faults that happen; all by default. */
  readonly only?: readonly string[];
}

/** A process that faults happen to. */
interface Victim {
  readonly name: string;
  readonly child: ChildProcess;
  stopped: boolean;
  /** When it last reported progress. */
  heardAt: number;
}

/** The run that faults happen to. */
interface Run {
  readonly server: SoakServer;
  readonly running: ReadonlySet<Victim>;
  readonly problems: string[];
  /** When processes were stopped. */
  readonly stopped: { pid: number; from: number; to: number }[];
  /** Resolve when stopped processes continue. */
  readonly later: Promise<void>[];
  readonly losses: readonly [session: string, at: number][];
  /** Starts another process in place of one that was killed. */
  replace(victim: Victim): void;
  kill(victim: Victim): Promise<void>;
  /** Reports processes that do not make progress. */
  watch(): void;
}

/** How often each fault happened, and how fast losses were detected. */
export type FaultCounts = Record<string, number>;

/** Returns a random element, or `undefined` if the list is empty. */
function any<T>(list: readonly T[]): T | undefined {
  return list[Math.floor(Math.random() * list.length)];
}

const isLockConnection = (name: string) => name.startsWith("portalock-");

/** A session may have another connection, for its commands. */
const session = (name: string) => name.replace(/:commands$/, "");

/** Returns the connections of holders, or of all processes without a holder. */
async function clientsOf(
  server: SoakServer,
): Promise<{ id: string; name: string }[]> {
  const list = String(await server.command("CLIENT", "LIST"));
  const clients = [...list.matchAll(/^id=(\d+) .* name=(\S+) /gm)]
    .map(([, id = "", name = ""]) => ({ id, name }))
    .filter(({ name }) => isLockConnection(name) || name.startsWith("soak"));
  const inside = [
    ...await values(server, "witness:soak"),
    ...await values(server, "witness:soak-rw"),
  ].map((value) => value.replace(/.*:session:/, "portalock-"));
  const holders = clients.filter(({ name }) => inside.includes(session(name)));
  return holders.length > 0 ? holders : clients;
}

async function values(server: SoakServer, key: string): Promise<string[]> {
  const reply = await server.command("HVALS", key);
  return Array.isArray(reply) ? reply.map(String) : [];
}

function anyRunning(run: Run): Victim | undefined {
  return any([...run.running].filter(({ stopped }) => !stopped));
}

interface Fault {
  name: string;
  /** How often it happens, in relation to the others. */
  weight: number;
  cause(run: Run, killed: Map<string, number>): Promise<void> | void;
}

const FAULTS: readonly Fault[] = [
  {
    name: "kills",
    weight: 3,
    async cause(run) {
      const one = anyRunning(run);
      if (one === undefined) return;
      await run.kill(one);
      run.replace(one);
    },
  },
  {
    name: "stops",
    weight: 1,
    cause(run) {
      const one = anyRunning(run);
      if (one === undefined) return;
      const { pid = 0 } = one.child;
      const record = { pid, from: Date.now(), to: Infinity };
      run.stopped.push(record);
      one.stopped = true;
      one.child.kill("SIGSTOP");
      const later = sleep(STOPPED_MS).then(() => {
        one.child.kill("SIGCONT");
        one.stopped = false;
        record.to = one.heardAt = Date.now();
      });
      run.later.push(later);
    },
  },
  {
    name: "disconnections",
    weight: 8,
    async cause(run, killed) {
      const client = any(await clientsOf(run.server));
      if (client === undefined) return;
      const at = Date.now();
      const { id, name } = client;
      const count = await run.server.command("CLIENT", "KILL", "ID", id);
      if (count === 1 && isLockConnection(name)) {
        killed.set(session(name).slice("portalock-".length), at);
      }
    },
  },
  {
    name: "forgotten scripts",
    weight: 4,
    async cause(run) {
      await run.server.command("SCRIPT", "FLUSH");
    },
  },
  {
    name: "server restarts",
    weight: 0.5,
    async cause(run) {
      await run.server.restart();
    },
  },
];

/** Causes faults until the run is over; returns how often each happened. */
export async function chaos(
  run: Run,
  { pause, only }: FaultPlan,
  isOver: () => boolean,
): Promise<FaultCounts> {
  const done: FaultCounts = {};
  const faults = FAULTS.filter(({ name }) => only?.includes(name) ?? true);
  for (const { name } of faults) done[name] = 0;
  const killed = new Map<string, number>();
  while (!isOver() && run.problems.length < MAX_PROBLEMS) {
    await sleep(Math.random() * 2 * pause);
    const { name, cause } = pickFault(faults);
    await cause(run, killed);
    done[name] = (done[name] ?? 0) + 1;
    run.watch();
  }
  await Promise.all(run.later);
  await sleep(MAX_DETECTION_MS);
  return { ...done, ...detections(run, killed) };
}

function pickFault(faults: readonly Fault[]): Fault {
  const sum = faults.reduce((total, { weight }) => total + weight, 0);
  let at = Math.random() * sum;
  const picked = faults.find(({ weight }) => (at -= weight) < 0) ?? faults[0];
  if (picked === undefined) throw new Error("there are no faults");
  return picked;
}

/** Returns how fast holders detected that their connection had been ended. */
function detections(run: Run, killed: Map<string, number>): FaultCounts {
  const delays = run.losses.flatMap(([session, at]) => {
    const killedAt = killed.get(session);
    return killedAt === undefined ? [] : [{ at, delay: at - killedAt }];
  }).filter(({ at, delay }) =>
    !run.stopped.some(({ from, to }) => from < at && at - delay < to)
  ).map(({ delay }) => delay).sort((a, b) => a - b);
  const latest = delays.at(-1) ?? 0;
  if (latest > MAX_DETECTION_MS) {
    run.problems.push(`a loss was detected after ${latest} ms`);
  }
  return {
    losses: run.losses.length,
    disconnected: delays.length,
    "detected after ms, median": Math.round(delays[delays.length >> 1] ?? 0),
    "at most": Math.round(latest),
  };
}
