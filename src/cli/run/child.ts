/**
 * The command and the processes that it has started.
 *
 * If a lock is lost, all of them must end, and the next holder may begin at any
 * time. On Linux, this process becomes the parent of each whose parent ends, so
 * all of them are its descendants, also those that left their group or session.
 * Before it sends SIGTERM, it stops them: a stopped process starts none, so it
 * finds all. Their parents are stopped before them, so that no shell goes on
 * with the next line. A process that one of them starts later, to clean up, does
 * not get SIGTERM. Elsewhere, only the command itself gets the signals.
 *
 * @module
 */

import { spawn } from "node:child_process";
import { constants } from "node:os";
import process from "node:process";
import { descendants } from "../../../ffi/linux/descendants.ts";
import type { ProcessEnd } from "../../../ffi/posix/command.ts";
import type { Host } from "../../../ffi/runtime/host.ts";
import { errorCode } from "../../../ffi/types.ts";
import { Failure, OS_ERROR, UNAVAILABLE } from "../exit_status.ts";
import type { HeldLock, RunInvocation } from "../types.ts";
import { startProgram } from "./blocking.ts";
import { numberOf } from "./signals.ts";
import type { Calls, Signals } from "./signals.ts";

/** A running command. */
export interface Child {
  readonly pid: number;
  /** Resolves when it has ended. */
  readonly ended: Promise<ProcessEnd>;
  /**
   * The processes that run: the command, and its descendants as far as they are
   * known. Each parent precedes its children.
   */
  running(): readonly number[];
  /** Sends a signal. Returns `"forbidden"` for a process of another user. */
  send(pid: number, signal: NodeJS.Signals): "sent" | "missing" | "forbidden";
  /** Waits until a process may have ended, for a number of milliseconds at most. */
  change(limit: number): Promise<void>;
}

/** How often to look for processes that have ended, besides SIGCHLD, in ms. */
const LOOK_EVERY_MS = 1000;

/** How often SIGKILL is sent until no process is left, in ms. */
const KILL_EVERY_MS = 50;

/** Starts the program with posix_spawn(3). */
export function spawnProgram(
  host: Host,
  { command, supervision }: Calls,
  signals: Signals,
  held: HeldLock,
  invocation: RunInvocation,
): Child {
  let pid = 0;
  let end: ProcessEnd | undefined;
  let resolve = (_: ProcessEnd) => {};
  const ended = new Promise<ProcessEnd>((resolver) => resolve = resolver);
  const wakeUps = new Set<() => void>();
  const look = () => {
    for (;;) {
      const reaped = supervision.reap();
      if (reaped === null || reaped === "none") break;
      if (reaped.pid === pid) resolve(end = reaped.end);
    }
    for (const wake of wakeUps) wake();
  };
  // Before the start: a program inherits that SIGCHLD is ignored.
  signals.listen("SIGCHLD", look);
  // Another program may have become this process, and have had children.
  const isFirst = supervision.reap() === "none";
  const others = new Set(isFirst ? [] : descendants());
  // A file is released at the end of the command, and nothing is stopped.
  if (held.signal) supervision.adoptOrphans();
  pid = startProgram({ host, calls: command }, held, invocation);
  // Keeps this process alive, too. It ends by exit(), so this is not cleared.
  setInterval(look, LOOK_EVERY_MS);
  return {
    pid,
    ended,
    running() {
      look();
      const found = descendants()?.filter((pid) => !others.has(pid));
      return found ?? (end ? [] : [pid]);
    },
    send: (to, signal) =>
      to === pid && end ? "missing" : supervision.kill(to, numberOf(signal)),
    async change(limit) {
      const { promise, wake } = wakeUp(limit);
      wakeUps.add(wake);
      await promise;
      wakeUps.delete(wake);
    },
  };
}

/** Starts the program with `node:child_process`. */
export async function spawnChild(
  host: Host,
  { environment }: HeldLock,
  { target, verbose }: RunInvocation,
): Promise<Child> {
  const { program, args } = target;
  if (verbose) host.write(1, `portalock: executing ${program}\n`);
  const env = { ...process.env, ...environment };
  let end: ProcessEnd | undefined;
  try {
    const child = spawn(program, args, { stdio: "inherit", env });
    const ended = new Promise<ProcessEnd>((resolve) => {
      child.on("exit", (status, signal) => {
        end = signal === null
          ? { status: status ?? 0 }
          : { signal: constants.signals[signal] };
        resolve(end);
      });
    });
    const failed = new Promise<never>((_, reject) => child.on("error", reject));
    failed.catch(() => {});
    const { pid = await failed } = child;
    return {
      pid,
      ended,
      running: () => end ? [] : [pid],
      send(pid, signal) {
        // Not child.kill(): Deno then reports that the signal ended the program,
        // also if the program handled it.
        try {
          if (!end) process.kill(pid, signal);
          return "sent";
        } catch (error) {
          return errorCode(error) === "EPERM" ? "forbidden" : "missing";
        }
      },
      async change(limit) {
        const { promise, wake } = wakeUp(limit);
        ended.then(wake);
        await promise;
      },
    };
  } catch (error) {
    const { message } = error as Error;
    throw new Failure(
      errorCode(error) === "ENOMEM" ? OS_ERROR : UNAVAILABLE,
      `failed to execute ${program}: ${message}`,
    );
  }
}

/** A promise that resolves when it is woken, or later. */
function wakeUp(limit: number): { promise: Promise<void>; wake: () => void } {
  let wake = () => {};
  const promise = new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, limit);
    wake = () => {
      clearTimeout(timer);
      resolve();
    };
  });
  return { promise, wake };
}

/**
 * Ends the command and its descendants: by SIGTERM, and after a time by SIGKILL.
 * Returns when none is left.
 */
export async function endDescendants(
  host: Host,
  child: Child,
  killAfter: number,
): Promise<void> {
  const start = performance.now();
  terminate(host, child);
  for (;;) {
    const left = child.running();
    if (left.length === 0) return;
    const rest = start + killAfter - performance.now();
    if (rest <= 0) { for (const pid of left) child.send(pid, "SIGKILL"); }
    const limit = rest > 0 ? Math.min(rest, LOOK_EVERY_MS) : KILL_EVERY_MS;
    await child.change(limit);
  }
}

function terminate(host: Host, child: Child): void {
  const found: number[] = [];
  const isKnown = (pid: number) => found.includes(pid);
  for (let all = false; !all;) {
    const others = child.running().filter((pid) => !isKnown(pid));
    all = others.length === 0;
    for (const pid of others) {
      found.push(pid);
      if (host.platform === "win32") continue;
      if (child.send(pid, "SIGSTOP") !== "forbidden") continue;
      host.write(
        2,
        `portalock: process ${pid} of another user may not be terminated\n`,
      );
    }
  }
  for (const pid of found) child.send(pid, "SIGTERM");
  if (host.platform === "win32") return;
  // Children first: the kernel sends SIGHUP to a stopped process whose parent
  // ends, if it is in another group.
  for (const pid of found.reverse()) child.send(pid, "SIGCONT");
}
