/**
 * The part of `npm run soak` that locks in Redis. Eight processes on every
 * runtime and in Python share two locks, then eight processes without Python,
 * then eight processes while faults happen. Fails if two sections overlap, if
 * the loss of a lock is not reported, if a process hangs, or if a key remains.
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
import { chaos, type FaultCounts } from "./chaos.ts";
import { compareSections, witness } from "./monitor.ts";
import { type SoakServer, startServer } from "./server.ts";

/** The processes of this package. */
const OURS = ["deno", "deno", "bun", "bun", "node", "node26"];

/** What a process has done, as it reports. */
interface Done {
  sections: number;
  shared: number;
  refused: number;
  failed: number;
  lost: number;
  longest: number;
}

const NOTHING: Done = {
  sections: 0,
  shared: 0,
  refused: 0,
  failed: 0,
  lost: 0,
  longest: 0,
};

/** For how long a process may report nothing, or not end. */
const MAX_SILENCE_MS = 20_000;

/** More problems than this end the run. */
const MAX_PROBLEMS = 10;

/** For how long a connection that ended may go undetected. */
const DETECTION_MS = 1000;

/** The parts, and the processes of each. */
const PARTS: Record<string, (pythons: string[]) => string[]> = {
  alone: () => [...OURS, "node", "node26"],
  python: (pythons) => [...OURS, ...pythons],
  // Not by default: Python processes crowd out those of this package.
  few: ([newer = "", older = ""]) => [
    ...["deno", "bun"],
    ...Array<string>(4).fill(newer),
    ...[older, older],
  ],
  // The older one reconnects with its subscription and without its lock.
  chaos: ([newer]) => newer ? [...OURS, newer, newer] : OURS,
};

/** How long a part runs. */
export interface PartOptions {
  seconds: number;
  /** If it is not 0, the part ends after this number of sections of this package. */
  sections: number;
}

/** Runs a part. Returns its problems, or why it did not run. */
export async function redisSoak(
  part: string,
  { seconds, sections }: PartOptions,
): Promise<{ skipped?: string; problems: string[] }> {
  const names = PARTS[part];
  if (names === undefined) {
    const known = Object.keys(PARTS).join(", ");
    throw new RangeError(`unknown part "${part}" (expected one of ${known})`);
  }
  if (spawnSync("redis-server", ["--version"]).status !== 0) {
    return { skipped: "needs redis-server", problems: [] };
  }
  const peers = pythons();
  if (["python", "few"].includes(part) && peers.length < 2) {
    return { skipped: "needs Python", problems: [] };
  }
  const isChaotic = part === "chaos";
  await using server = await startServer();
  const run = new Run(part, names(peers), server, isChaotic);
  return { problems: await run.run(seconds, isChaotic ? 0 : sections) };
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
  const runtime = runtimes().find((each) => each.name === name);
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
  /** When it last reported progress. */
  heardAt: number;
  ended: Promise<void>;
}

/** What a process prints, one JSON object per line. */
interface Message extends Done {
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
  readonly #names: readonly string[];
  readonly #isChaotic: boolean;
  readonly #excuses = { "python and python": 0, "stopped, and python": 0 };
  #files = 0;

  /** Prepares a part; {@linkcode run} starts it. */
  constructor(
    title: string,
    names: readonly string[],
    server: SoakServer,
    isChaotic: boolean,
  ) {
    this.#title = title;
    this.#names = names;
    this.server = server;
    this.#isChaotic = isChaotic;
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
    for (const name of this.#names) this.start(name);
    const isOver = () =>
      sections ? this.#ours >= sections : Date.now() > start + seconds * 1000;
    const faults = this.#isChaotic
      ? await chaos(this, isOver)
      : await this.#wait(isOver);
    const took = (Date.now() - start) / 1000;
    await Promise.all([...this.running].map((one) => this.end(one)));
    await this.#checkEnd();
    const compared = this.#compare();
    this.#print(took, compared, faults);
    rmSync(this.folder, { recursive: true });
    return this.problems;
  }

  /** Starts a process. */
  start(name: string): SoakProcess {
    const { command: [program, ...args], env } = commandOf(name);
    const file = join(this.folder, "intervals", `${++this.#files}`);
    const config = {
      name,
      port: this.server.port,
      intervals: file,
      // Must be detected while a process is stopped.
      options: this.#isChaotic ? { unavailableTimeout: DETECTION_MS } : {},
      quiet: this.#names.includes("python4") ? 100 : 0,
      // A process that never holds a lock for long never loses one.
      stay: this.#isChaotic ? 300 : 0,
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

  /** Asks a process to end, and waits for that. */
  async end(one: SoakProcess): Promise<void> {
    one.child.stdin.end("stop\n");
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
   * The next section removes what killed processes left; after it, no key
   * remains.
   */
  async #checkEnd(): Promise<void> {
    const one = this.start("node");
    await sleep(2000);
    await this.end(one);
    const left = await this.server.command("KEYS", "portalock:v1:*");
    const isClock = (name: unknown) => name === "portalock:v1:clock";
    if (!Array.isArray(left) || !left.every(isClock)) {
      this.problems.push(`left behind: ${left}`);
    }
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
    for (const { name, did, doomed } of this.all) {
      const { sections, shared, refused, failed, lost, longest } = did;
      console.log(
        `  ${name.padEnd(8)} ${sections} sections (${shared} shared), ` +
          `${refused} refused, ${failed} failed, ${lost} lost, ` +
          `longest ${Math.round(longest)} ms${doomed ? ", killed" : ""}`,
      );
    }
    const counts = { ours: this.#ours, ...this.#excuses, ...faults };
    console.log(`  compared ${compared}, ${JSON.stringify(counts)}`);
    if (faults !== null) return;
    for (const { name, did } of this.all) {
      // Python processes may starve each other.
      if (did.sections || name.startsWith("python")) continue;
      this.problems.push(`a ${name} acquired nothing`);
    }
  }
}
