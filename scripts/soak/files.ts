/**
 * The part of `npm run soak` that locks files: eight processes on every runtime
 * and in Python acquire a temporary lock and a PID lock, while others like them
 * are killed. Fails if two sections overlap, if a process acquires nothing, or
 * if a file remains.
 */

import { type ChildProcess, spawn } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { newerPortalocker, python } from "../setup/debian.ts";
import { root, type Runtime, runtimes } from "../setup/mod.ts";

const PROCESSES = 8;

/** At most this passes before a process is killed, in milliseconds. */
const MAX_PAUSE_MS = 300;

/** How long the last section runs, which removes what was left. */
const LAST_SECTION_S = 0.3;

/** A program that locks the files. */
interface Kind {
  name: string;
  command: readonly [string, ...string[]];
  env: NodeJS.ProcessEnv;
}

/** The sections of one process. */
interface Sections {
  name: string;
  temporary: number;
  pid: number;
}

interface Started {
  child: ChildProcess;
  /** Resolves with its first output. */
  ready: Promise<void>;
  ended: Promise<{
    code: number | null;
    signal: NodeJS.Signals | null;
    output: string;
  }>;
  result(): Promise<Sections | null>;
}

/** Runs the part; returns its problems and whether Python was skipped. */
export async function fileSoak(
  seconds: number,
): Promise<{ problems: string[]; withoutPython: boolean }> {
  const run = new FileRun();
  return {
    problems: await run.run(seconds),
    withoutPython: !run.hasPython,
  };
}

class FileRun {
  readonly #folder = mkdtempSync(join(tmpdir(), "portalock soak-"));
  readonly #problems: string[] = [];
  readonly #kinds: readonly Kind[];
  readonly hasPython: boolean;

  constructor() {
    const python = pythonKind();
    this.hasPython = python !== null;
    const all = runtimes().map(scriptKind);
    this.#kinds = python === null ? all : [...all, python];
  }

  async run(seconds: number): Promise<string[]> {
    mkdirSync(join(this.#folder, "doomed"));
    const results = await this.#soak(seconds);
    // The next section removes what the last killed process left.
    for (const kind of this.#kinds) {
      await this.#start(kind, LAST_SECTION_S).result();
    }
    // A Python that is killed while it writes its PID leaves a temporary file.
    const ofPython = /^a\.pid\.\d+\.tmp$/;
    const left = readdirSync(this.#folder).filter((name) =>
      name !== "doomed" && !ofPython.test(name)
    );
    if (left.length > 0) this.#problems.push(`left behind: ${left.join(", ")}`);
    for (const { name, temporary, pid } of results) {
      console.log(`${name.padEnd(14)}${temporary} + ${pid} sections`);
      if (!temporary || !pid) this.#problems.push(`${name} acquired nothing`);
    }
    rmSync(this.#folder, { recursive: true });
    return this.#problems;
  }

  /** Starts the processes, and kills others while they run. */
  async #soak(seconds: number): Promise<Sections[]> {
    const survivors = Array.from(
      { length: PROCESSES },
      (_, i) => this.#start(this.#kind(i), seconds),
    );
    let done = false;
    const finished = Promise.all(survivors.map((each) => each.result()))
      .finally(() => done = true);
    const killing = (async () => {
      for (let i = 0; !done; i++) await this.#kill(this.#kind(i), seconds);
    })();
    const results = await finished;
    await killing;
    return results.filter((each) => each !== null);
  }

  #kind(index: number): Kind {
    const kind = this.#kinds[index % this.#kinds.length];
    if (kind === undefined) throw new Error("no runtime is installed");
    return kind;
  }

  async #kill(kind: Kind, seconds: number): Promise<void> {
    const victim = this.#start(kind, seconds * 10);
    await Promise.race([victim.ready, victim.ended]);
    await sleep(Math.random() * MAX_PAUSE_MS);
    // The next process must know before it finds what the victim leaves.
    const name = String(victim.child.pid);
    writeFileSync(join(this.#folder, "doomed", name), "");
    victim.child.kill("SIGKILL");
    const { signal, output } = await victim.ended;
    if (signal !== "SIGKILL") {
      this.#problems.push(`a ${kind.name} failed: ${output}`);
    }
  }

  #start(
    { name, command: [program, ...args], env }: Kind,
    seconds: number,
  ): Started {
    const child = spawn(program, [...args, this.#folder, `${seconds}`], {
      env,
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data) => output += data);
    }
    const ended: Started["ended"] = new Promise((resolve) =>
      child.on("close", (code, signal) => resolve({ code, signal, output }))
    );
    return {
      child,
      ready: new Promise((resolve) =>
        child.stdout.once("data", () => resolve())
      ),
      ended,
      result: async () => {
        const { code } = await ended;
        if (code === 0) {
          return { name, ...JSON.parse(output.split("\n")[1] ?? "") };
        }
        this.#problems.push(`a ${name} failed: ${output}`);
        return null;
      },
    };
  }
}

function scriptKind({ name, command, directory, extension }: Runtime): Kind {
  const script = join(directory, "tests", "fixtures", "soaking") + extension;
  return { name, command: [...command, script], env: process.env };
}

/** Python's own classes are safe against each other from version 4 on. */
function pythonKind(): Kind | null {
  const program = python();
  const library = newerPortalocker(join(root, "build", "python"));
  if (!program || !library) {
    console.log("SKIPPED Python: needs portalocker 4");
    return null;
  }
  const script = join(root, "tests", "interop", "soaking.py");
  const env = { ...process.env, PYTHONPATH: library };
  return { name: "python", command: [program, script], env };
}
