/**
 * The part of `npm run soak` that locks in Redis: eight processes on every
 * runtime and in Python share two channels; then so do eight without Python;
 * then while all that can go wrong does. Fails if two are ever inside at a
 * time, if a loss is not announced, if anybody hangs, or if a key is left.
 */

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { newerPortalocker, python } from "./debian.mjs";
import { chaos } from "./redis_chaos.mjs";
import { intervals, witness } from "./redis_witness.mjs";
import { root, runtimes } from "./setup.mjs";

/** Whose turns are what is counted, most of all where they differ. */
const OURS = ["deno", "deno", "bun", "bun", "node", "node26"];

/** What a process has done that has not said anything. */
const NOTHING = {
  sections: 0,
  shared: 0,
  refused: 0,
  failed: 0,
  lost: 0,
  longest: 0,
};

/** For how long a process may say nothing, or not end, in milliseconds. */
const HANGING = 20_000;

/** The parts, and who takes part. */
const PARTS = {
  alone: () => [...OURS, "node", "node26"],
  python: ([newer, older]) => [...OURS, newer, older],
  // Not by default: those of Python crowd this package's out, if they can.
  few: (
    [newer, older],
  ) => ["deno", "bun", ...Array(4).fill(newer), older, older],
  // The older one comes back with its subscription and without its lock.
  chaos: ([newer]) => newer ? [...OURS, newer, newer] : OURS,
};

/**
 * Runs a part for so long, or until there were so many sections of this
 * package's. Returns what went wrong, or why it did not run.
 */
export async function redisSoak(part, { seconds, sections }) {
  const skipping = (skipped) => ({ skipped, problems: [] });
  if (spawnSync("redis-server", ["--version"]).status !== 0) {
    return skipping("needs redis-server");
  }
  const peers = pythons();
  if (["python", "few"].includes(part) && peers.length < 2) {
    return skipping("needs Python");
  }
  const chaotic = part === "chaos";
  const run = new Run(part, PARTS[part](peers));
  return {
    problems: await run.run(chaotic, seconds, chaotic ? 0 : sections),
  };
}

/** The newer first. */
function pythons() {
  if (!python()) return [];
  return newerPortalocker(join(root, "build", "python"))
    ? ["python4", "python2"]
    : [];
}

function commandOf(name) {
  if (name.startsWith("python")) {
    const script = join(root, "tests", "interop", "redis_soaking.py");
    const newer = { PYTHONPATH: join(root, "build", "python") };
    const env = { ...process.env, ...name === "python4" ? newer : {} };
    return { command: [python(), script], env };
  }
  const { command, directory, extension } = runtimes()
    .find((runtime) => runtime.name === name);
  const script = join(directory, "tests", "fixtures", "redis_soaking");
  return { command: [...command, script + extension], env: process.env };
}

/** The tests' own server; this script cannot import TypeScript. */
async function startServer() {
  const { directory } = runtimes().find(({ name }) => name === "node");
  const { RedisServer } = await import(
    join(directory, "tests", "redis", "support", "server.js")
  );
  return RedisServer.start();
}

/** One part: its processes, and what they said. */
export class Run {
  folder = mkdtempSync(join(tmpdir(), "portalock soak-"));
  problems = [];
  /** Processes that run, and all that ever did. */
  running = new Set();
  all = [];
  /** Who did not run from when to when: `{ pid, from, to }`. */
  stopped = [];
  losses = [];
  #files = 0;

  constructor(title, names) {
    this.title = title;
    this.names = names;
  }

  get ours() {
    return this.all.filter(({ name }) => !name.startsWith("python"))
      .reduce((sum, { did }) => sum + did.sections, 0);
  }

  async run(chaotic, seconds, sections) {
    const start = Date.now();
    this.server = await startServer();
    mkdirSync(join(this.folder, "intervals"));
    // Silence is found out while a process is stopped.
    this.options = chaotic ? { unavailableTimeout: 1000 } : {};
    // Who is never inside for long loses nothing.
    this.stay = chaotic ? 300 : 0;
    this.quiet = this.names.includes("python4") ? 100 : 0;
    for (const name of this.names) this.start(name);
    const isOver = () =>
      sections ? this.ours >= sections : Date.now() > start + seconds * 1000;
    const done = chaotic ? await chaos(this, isOver) : await this.#wait(isOver);
    const took = (Date.now() - start) / 1000;
    await Promise.all([...this.running].map((one) => this.end(one)));
    await this.#last();
    this.#say(took, done);
    await this.server[Symbol.asyncDispose]();
    rmSync(this.folder, { recursive: true });
    return this.problems;
  }

  start(name) {
    const { command: [program, ...args], env } = commandOf(name);
    const { folder, options, quiet, stay, server: { port } } = this;
    const file = join(folder, "intervals", `${++this.#files}`);
    const config = {
      name,
      port,
      intervals: file,
      options,
      quiet,
      stay,
      ...witness,
    };
    const child = spawn(program, [...args, JSON.stringify(config)], { env });
    const one = { name, child, did: NOTHING, doomed: false, heard: Date.now() };
    let output = "", line = "";
    child.stdin.on("error", () => {});
    child.stderr.on("data", (data) => output += data);
    child.stdout.on("data", (data) => {
      const lines = (line + data).split("\n");
      line = lines.pop();
      for (const whole of lines) this.#hear(one, JSON.parse(whole));
    });
    one.ended = new Promise((resolve) =>
      child.on("close", (code) => {
        this.running.delete(one);
        if (!one.doomed && code !== 0) {
          this.problems.push(`a ${name} failed: ${output}`);
        }
        resolve();
      })
    );
    this.running.add(one);
    this.all.push(one);
    return one;
  }

  /** Tells a process to end, and expects it to. */
  async end(one) {
    one.child.stdin.end("stop\n");
    const timer = setTimeout(() => {
      this.problems.push(`a ${one.name} did not end`);
      one.child.kill("SIGKILL");
    }, HANGING);
    await one.ended;
    clearTimeout(timer);
  }

  /** Kills it, with no chance to do anything more. */
  async kill(one) {
    one.doomed = true;
    one.child.kill("SIGKILL");
    await one.ended;
  }

  /** Reports those who say nothing or get on with nothing. */
  watch() {
    for (const one of this.running) {
      if (Date.now() < one.heard + HANGING) continue;
      this.problems.push(`a ${one.name} hangs: ${JSON.stringify(one.did)}`);
      one.heard = Infinity;
    }
  }

  async #wait(isOver) {
    while (!isOver() && this.problems.length < 10 && this.running.size > 0) {
      await sleep(100);
      this.watch();
    }
    return {};
  }

  #hear(one, { problems, losses, ...did }) {
    const turns = ({ sections, refused, failed, lost }) =>
      sections + refused + failed + lost;
    if (turns(did) !== turns(one.did)) one.heard = Date.now();
    one.did = did;
    this.losses.push(...losses);
    this.problems.push(...problems.filter((text) => !this.#excused(text)));
  }

  excuses = { "python and python": 0, "stopped, and python": 0 };

  /** Whether an overlap is one that this package cannot keep from happening. */
  #excused(problem) {
    const [at, what, one, , other] = problem.split(" ");
    return what === "overlap" && this.#excusedPair(one, other, Number(at));
  }

  #excusedPair(one, other, at) {
    const python = [one, other].filter((who) => who.startsWith("python"));
    if (python.length === 2) this.excuses["python and python"]++;
    // Nobody can answer for who is stopped.
    const silent = python.length === 1 &&
      this.stopped.some(({ pid, from, to }) =>
        [one, other].some((who) => who.endsWith(`-${pid}`)) &&
        (at === undefined || from < at && at < to + 1000)
      );
    if (silent) this.excuses["stopped, and python"]++;
    return python.length === 2 || silent;
  }

  /** What the dead have left goes with the next section; nothing else stays. */
  async #last() {
    const one = this.start("node");
    await sleep(2000);
    await this.end(one);
    const left = await this.server.command("KEYS", "portalock:*");
    if (left.length > 0) this.problems.push(`left behind: ${left}`);
    this.compared = intervals(join(this.folder, "intervals"));
    for (const overlap of this.compared.overlaps) {
      const [who, , other] = overlap.split(" ");
      if (this.#excusedPair(who, other)) continue;
      this.problems.push(`by the clock: ${overlap}`);
    }
  }

  #say(took, done) {
    console.log(`\nRedis ${this.title}, ${took.toFixed(1)} s`);
    for (const { name, did, doomed } of this.all) {
      const { sections, shared, refused, failed, lost, longest } = did;
      const note = doomed ? ", killed" : "";
      console.log(
        `  ${name.padEnd(8)} ${sections} sections (${shared} shared), ` +
          `${refused} refused, ${failed} failed, ${lost} lost, ` +
          `longest ${Math.round(longest)} ms${note}`,
      );
    }
    const told = { ours: this.ours, ...this.excuses, ...done };
    console.log(
      `  compared ${this.compared.sections}, ${JSON.stringify(told)}`,
    );
    if (done.kills === undefined) {
      for (const { name, did } of this.all) {
        // Python's turns are its own affair.
        if (did.sections || name.startsWith("python")) continue;
        this.problems.push(`a ${name} got nothing`);
      }
    }
  }
}
