/**
 * The part of `npm run soak` that locks in Redis. Eight processes on every
 * runtime and with every client share two locks, then such processes and those
 * of Python, then both while faults happen. Fails if two sections overlap, if
 * the loss of a lock is not reported, if a process hangs, or if a key, a
 * subscription or a connection remains.
 */

import {
  type ChildProcessWithoutNullStreams,
  spawn,
  spawnSync,
} from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { newerPortalocker, python } from "../setup/debian.ts";
import { root, runtimes } from "../setup/mod.ts";
import { chaos, type FaultCounts, type FaultPlan } from "./chaos.ts";
import { compareSections, witness } from "./monitor.ts";
import { type SoakServer, startServer } from "./server.ts";

/** Each runtime with each client, so that neighbors differ in both. */
const COMBINATIONS: readonly string[] = combinations();

function combinations(): string[] {
  const names = ["deno", "bun", "node", "node26"];
  const clients = ["redis", "ioredis-5", "ioredis", "redis-5"];
  const all = clients.flatMap((_, shift) =>
    names.map((name, i) => `${name}/${clients[(i + shift) % clients.length]}`)
  );
  all.splice(4, 0, "bun/bun");
  all.splice(11, 0, "bun/url");
  return all;
}

let combination = 0;

/** Returns the next process of this package, in turn. */
function nextProcess(clients: readonly string[]): string {
  const all = clients.length > 0 ? clients : COMBINATIONS;
  return all[combination++ % all.length] ?? "node/redis";
}

/** What a process has done, as it reports. */
interface Done {
  sections: number;
  shared: number;
  refused: number;
  failed: number;
  lost: number;
  transferred: number;
  adopted: number;
  longest: number;
}

const NOTHING: Done = {
  sections: 0,
  shared: 0,
  refused: 0,
  failed: 0,
  lost: 0,
  transferred: 0,
  adopted: 0,
  longest: 0,
};

/** For how long a process may report nothing, or not end. */
const MAX_SILENCE_MS = 20_000;

/** For how long a connection that is not used may stay open. */
const MAX_IDLE_MS = 5000;

/** More problems than this end the run. */
const MAX_PROBLEMS = 10;

/** For how long a connection that ended may go undetected. */
const DETECTION_MS = 1000;

/** The processes of a part, and what happens to them. */
interface Part {
  /** The number of processes of this package. */
  ours: number;
  /** The processes of Python, of which the first is the newer one. */
  pythons?: (newer: string, older: string) => string[];
  needsPython?: boolean;
  /** The part of the leases that is transferred, from 0 to 1. */
  transfers: number;
  faults?: FaultPlan;
}

const PARTS: Record<string, Part> = {
  alone: { ours: 8, transfers: 0.05 },
  python: {
    ours: 6,
    pythons: (newer, older) => [newer, older],
    needsPython: true,
    transfers: 0.05,
  },
  // Not by default: Python processes crowd out those of this package.
  few: {
    ours: 2,
    pythons: (newer, older) => [newer, newer, newer, newer, older, older],
    needsPython: true,
    transfers: 0.05,
  },
  chaos: {
    ours: 6,
    pythons: (newer, older) => [newer, older],
    transfers: 0.1,
    faults: { pause: 200 },
  },
  // Not by default: processes are killed while they transfer each lease.
  transfers: {
    ours: 4,
    transfers: 1,
    faults: { pause: 400, only: ["kills"] },
  },
};

/** How long a part runs. */
export interface PartOptions {
  seconds: number;
  /** If it is not 0, the part ends after this number of sections of this package. */
  sections: number;
  /** The processes of this package, as `RUNTIME/CLIENT`. Empty for all. */
  clients: readonly string[];
}

/** Runs a part. Returns its problems, or why it did not run. */
export async function redisSoak(
  part: string,
  { seconds, sections, clients }: PartOptions,
): Promise<{ skipped?: string; problems: string[] }> {
  const plan = PARTS[part];
  if (plan === undefined) {
    const known = Object.keys(PARTS).join(", ");
    throw new RangeError(`unknown part "${part}" (expected one of ${known})`);
  }
  if (spawnSync("redis-server", ["--version"]).status !== 0) {
    return { skipped: "needs redis-server", problems: [] };
  }
  const [newer, older] = pythons();
  const hasPython = newer !== undefined && older !== undefined;
  if (plan.needsPython && !hasPython) {
    return { skipped: "needs Python", problems: [] };
  }
  const peers = hasPython ? plan.pythons?.(newer, older) ?? [] : [];
  await using server = await startServer();
  const processes = { clients, pythons: peers };
  const run = new Run(part, plan, processes, server);
  const problems = await run.run(seconds, plan.faults ? 0 : sections);
  return { problems };
}

/** Returns the names of the Python processes, the newer one first. */
function pythons(): string[] {
  if (!python()) return [];
  return newerPortalocker(join(root, "build", "python"))
    ? ["python4", "python2"]
    : [];
}

function commandOf(
  name: string,
): { command: readonly [string, ...string[]]; env: NodeJS.ProcessEnv } {
  if (name.startsWith("python")) {
    const script = join(root, "tests", "interop", "redis_soaking.py");
    const newer = { PYTHONPATH: join(root, "build", "python") };
    const env = { ...process.env, ...name === "python4" ? newer : {} };
    return { command: [python() ?? "python3", script], env };
  }
  const [wanted] = name.split("/");
  const runtime = runtimes().find((each) => each.name === wanted);
  if (runtime === undefined) throw new Error(`${name} is not installed`);
  const { command, directory, extension } = runtime;
  const script = join(directory, "tests", "fixtures", "redis_soaking");
  return { command: [...command, script + extension], env: process.env };
}

/** A process that locks until it is stopped. */
export interface SoakProcess {
  name: string;
  child: ChildProcessWithoutNullStreams;
  did: Done;
  /** Whether it is going to be killed. */
  doomed: boolean;
  stopped: boolean;
  /** Whether it has stopped, and waits for the end of its input. */
  idle: boolean;
  /** When it last reported progress. */
  heardAt: number;
  ended: Promise<void>;
}

/** What a process prints, one JSON object per line. */
interface Message extends Done {
  idle?: boolean;
  problems: string[];
  losses: [session: string, at: number][];
}

/** One part: its processes, and what they reported. */
export class Run {
  readonly server: SoakServer;
  readonly folder = mkdtempSync(join(tmpdir(), "portalock soak-"));
  readonly problems: string[] = [];
  /** Processes that run, and all that ever did. */
  readonly running = new Set<SoakProcess>();
  readonly all: SoakProcess[] = [];
  /** When processes were stopped. */
  readonly stopped: { pid: number; from: number; to: number }[] = [];
  /** Resolve when stopped processes continue. */
  readonly later: Promise<void>[] = [];
  readonly losses: [session: string, at: number][] = [];
  readonly #title: string;
  readonly #plan: Part;
  readonly #pythons: readonly string[];
  readonly #clients: readonly string[];
  readonly #excuses = { "python and python": 0, "stopped, and python": 0 };
  #files = 0;

  /** Prepares a part; {@linkcode run} starts it. */
  constructor(
    title: string,
    plan: Part,
    { pythons, clients }: Record<"pythons" | "clients", readonly string[]>,
    server: SoakServer,
  ) {
    this.#title = title;
    this.#plan = plan;
    this.#pythons = pythons;
    this.#clients = clients;
    this.server = server;
  }

  /** The sections of this package's processes. */
  get #ours(): number {
    return this.all.filter(({ name }) => !name.startsWith("python"))
      .reduce((sum, { did }) => sum + did.sections, 0);
  }

  /** Runs the part to its end and returns its problems. */
  async run(seconds: number, sections: number): Promise<string[]> {
    const start = Date.now();
    mkdirSync(join(this.folder, "intervals"));
    for (let i = 0; i < this.#plan.ours; i++) {
      this.start(nextProcess(this.#clients));
    }
    for (const name of this.#pythons) this.start(name);
    const isOver = () =>
      sections ? this.#ours >= sections : Date.now() > start + seconds * 1000;
    const { faults: plan } = this.#plan;
    const faults = plan
      ? await chaos(this, plan, isOver)
      : await this.#wait(isOver);
    const took = (Date.now() - start) / 1000;
    await this.#stop();
    await this.#checkEnd();
    await Promise.all([...this.running].map((one) => this.#end(one)));
    const compared = this.#compare();
    this.#print(took, compared, faults);
    rmSync(this.folder, { recursive: true });
    return this.problems;
  }

  /** Starts a process. */
  start(name: string): SoakProcess {
    const { command: [program, ...args], env } = commandOf(name);
    const file = join(this.folder, "intervals", `${++this.#files}`);
    const { faults, transfers } = this.#plan;
    const config = {
      name,
      client: name.split("/")[1],
      transfers,
      port: this.server.port,
      intervals: file,
      // Must be detected while a process is stopped.
      options: faults ? { unavailableTimeout: DETECTION_MS } : {},
      quiet: this.#pythons.length > 0 ? 100 : 0,
      // A process that never holds a lock for long never loses one.
      stay: faults ? 300 : 0,
      ...witness,
    };
    const child = spawn(program, [...args, JSON.stringify(config)], { env });
    let output = "";
    let line = "";
    child.stdin.on("error", () => {});
    child.stderr.on("data", (data) => output += data);
    child.stdout.on("data", (data) => {
      const lines = (line + data).split("\n");
      line = lines.pop() ?? "";
      for (const whole of lines) this.#onMessage(one, JSON.parse(whole));
    });
    const one: SoakProcess = {
      name,
      child,
      did: NOTHING,
      doomed: false,
      stopped: false,
      idle: false,
      heardAt: Date.now(),
      ended: new Promise((resolve) =>
        child.on("close", (code) => {
          this.running.delete(one);
          if (!one.doomed && code !== 0) {
            this.problems.push(`a ${name} failed: ${output}`);
          }
          resolve();
        })
      ),
    };
    this.running.add(one);
    this.all.push(one);
    return one;
  }

  /** Starts another process in place of one that was killed. */
  replace({ name }: SoakProcess): void {
    this.start(name.startsWith("python") ? name : nextProcess(this.#clients));
  }

  /** Asks all processes to stop, and waits until they are idle. */
  async #stop(): Promise<void> {
    const end = Date.now() + MAX_SILENCE_MS;
    for (const { child } of this.running) child.stdin.write("stop\n");
    const busy = () => [...this.running].filter(({ idle }) => !idle);
    while (busy().length > 0 && Date.now() < end) await sleep(20);
    for (const { name } of busy()) this.problems.push(`a ${name} did not stop`);
  }

  /** Waits for the end of a process that is idle. */
  async #end(one: SoakProcess): Promise<void> {
    one.child.stdin.end();
    const timer = setTimeout(() => {
      this.problems.push(`a ${one.name} did not end`);
      one.child.kill("SIGKILL");
    }, MAX_SILENCE_MS);
    await one.ended;
    clearTimeout(timer);
  }

  /** Kills a process without a chance to clean up. */
  async kill(one: SoakProcess): Promise<void> {
    one.doomed = true;
    one.child.kill("SIGKILL");
    await one.ended;
  }

  /** Reports processes that do not make progress. */
  watch(): void {
    for (const one of this.running) {
      if (Date.now() < one.heardAt + MAX_SILENCE_MS) continue;
      this.problems.push(`a ${one.name} hangs: ${JSON.stringify(one.did)}`);
      one.heardAt = Infinity;
    }
  }

  async #wait(isOver: () => boolean): Promise<null> {
    while (
      !isOver() && this.problems.length < MAX_PROBLEMS && this.running.size > 0
    ) {
      await sleep(100);
      this.watch();
    }
    return null;
  }

  #onMessage(one: SoakProcess, message: Message): void {
    if (message.idle) {
      one.idle = true;
      return;
    }
    const { problems, losses, ...did } = message;
    const turns = ({ sections, refused, failed, lost }: Done) =>
      sections + refused + failed + lost;
    if (turns(did) !== turns(one.did)) one.heardAt = Date.now();
    one.did = did;
    this.losses.push(...losses);
    this.problems.push(...problems.filter((text) => !this.#isExcused(text)));
  }

  /** Whether this package cannot prevent an overlap. */
  #isExcused(problem: string): boolean {
    const [at, what, one = "", , other = ""] = problem.split(" ");
    return what === "overlap" && this.#isExcusedPair([one, other], Number(at));
  }

  #isExcusedPair(pair: [string, string], at?: number): boolean {
    const python = pair.filter((name) => name.startsWith("python"));
    if (python.length === 2) this.#excuses["python and python"]++;
    // A Python client takes the lock of a process that does not answer.
    const isSilent = python.length === 1 &&
      this.stopped.some(({ pid, from, to }) =>
        pair.some((name) => name.endsWith(`-${pid}`)) &&
        (at === undefined || from < at && at < to + 1000)
      );
    if (isSilent) this.#excuses["stopped, and python"]++;
    return python.length === 2 || isSilent;
  }

  /**
   * The next section removes what killed processes left. After it, no key, no
   * subscription and no connection of a lock remains, although the clients of
   * the processes are still open.
   */
  async #checkEnd(): Promise<void> {
    this.start("node/redis");
    await sleep(2000);
    await this.#stop();
    const end = Date.now() + MAX_IDLE_MS;
    let left = await this.#remaining();
    while (left.length > 0 && Date.now() < end) {
      await sleep(50);
      left = await this.#remaining();
    }
    if (left.length > 0) this.problems.push(`left behind: ${left.join(", ")}`);
  }

  /** Lists what locks have left on the server. */
  async #remaining(): Promise<string[]> {
    const keys = await this.server.command("KEYS", "*");
    const channels = await this.server.command("PUBSUB", "CHANNELS");
    const clients = String(await this.server.command("CLIENT", "LIST"));
    const names = [keys, channels].flat().map(String).filter((name) =>
      !name.startsWith("witness:") && name !== "portalock:v1:clock"
    );
    return [...names, ...clients.match(/\bname=portalock-\S+/g) ?? []];
  }

  /** Compares the sections by the clock; returns how many there were. */
  #compare(): number {
    const { sections, overlaps } = compareSections(
      join(this.folder, "intervals"),
    );
    for (const { processes, text } of overlaps) {
      if (this.#isExcusedPair(processes)) continue;
      this.problems.push(`by the clock: ${text}`);
    }
    return sections;
  }

  #print(took: number, compared: number, faults: FaultCounts | null): void {
    console.log(`\nRedis ${this.#title}, ${took.toFixed(1)} s`);
    for (const name of [...new Set(this.all.map(({ name }) => name))].sort()) {
      const those = this.all.filter((one) => one.name === name);
      const killed = those.filter(({ doomed }) => doomed).length;
      const sum = (what: keyof Done) =>
        those.reduce((total, { did }) => total + did[what], 0);
      const longest = Math.max(...those.map(({ did }) => did.longest));
      console.log(
        `  ${name.padEnd(16)} ${sum("sections")} sections ` +
          `(${sum("shared")} shared), ${sum("refused")} refused, ` +
          `${sum("failed")} failed, ${sum("lost")} lost, ` +
          `${sum("transferred")} transferred, ${sum("adopted")} adopted, ` +
          `longest ${Math.round(longest)} ms${
            killed ? `, ${killed} killed` : ""
          }`,
      );
    }
    const exclusive = this.all.reduce(
      (total, { did }) => total + did.sections - did.shared,
      0,
    );
    const counts = { ours: this.#ours, exclusive, ...this.#excuses, ...faults };
    console.log(`  compared ${compared}, ${JSON.stringify(counts)}`);
    if (faults !== null) return;
    for (const { name, did } of this.all) {
      // Python processes may starve each other.
      if (did.sections || name.startsWith("python")) continue;
      this.problems.push(`a ${name} acquired nothing`);
    }
  }
}
