/**
 * Runs a program with `node:child_process`: while a lock in Redis is held, which
 * needs the event loop, and where the C library cannot be called.
 *
 * Signals that reach only this process are passed on, because the lock would end
 * with it. Those of a terminal (INT, QUIT) reach the program without that.
 *
 * @module
 */

import { spawn } from "node:child_process";
import { constants } from "node:os";
import process from "node:process";
import type { Host } from "../../../ffi/runtime/host.ts";
import { errorCode } from "../../../ffi/types.ts";
import { Failure, LOCK_LOST, OS_ERROR, UNAVAILABLE } from "../exit_status.ts";
import type { HeldLock, RunInvocation } from "../types.ts";
import { SIGNAL_STATUS } from "./blocking.ts";

const FORWARDED = ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"] as const;
const FROM_TERMINAL: readonly string[] = ["SIGINT", "SIGQUIT"];

/** Runs the program and returns its exit status, or that of a lost lock. */
export async function runChild(
  host: Host,
  held: HeldLock,
  { target, killAfter, verbose }: RunInvocation,
): Promise<number> {
  const { program, args } = target;
  if (verbose) host.write(1, `portalock: executing ${program}\n`);
  const hasTerminal = ([0, 1, 2] as const).some((fd) => host.isTerminal(fd));
  let hasEnded = false;
  const send = (signal: NodeJS.Signals) => {
    // Not child.kill(): Deno then reports that the signal ended the program,
    // also if the program handled it.
    if (child.pid === undefined || hasEnded) return;
    try {
      process.kill(child.pid, signal);
    } catch {
      // It has just ended.
    }
  };
  const listeners = FORWARDED.map((name) => {
    const listener = () => {
      if (!hasTerminal || !FROM_TERMINAL.includes(name)) send(name);
    };
    process.on(name, listener);
    return [name, listener] as const;
  });
  // After the listeners exist: the program may cause a signal at once.
  const child = spawn(program, args, { stdio: "inherit" });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const onLost = () => {
    const { message } = held.signal!.reason as Error;
    host.write(2, `portalock: ${message}; terminating the command\n`);
    send("SIGTERM");
    if (killAfter < Infinity) {
      timer = setTimeout(() => send("SIGKILL"), killAfter);
    }
  };
  try {
    const ended = new Promise<number>((resolve, reject) => {
      child.on("error", reject);
      child.on("exit", (code, signal) => {
        hasEnded = true;
        const number = signal === null ? 0 : constants.signals[signal];
        resolve(code ?? SIGNAL_STATUS + number);
      });
    });
    ended.catch(() => {});
    if (held.signal?.aborted) onLost();
    else held.signal?.addEventListener("abort", onLost);
    const status = await ended;
    return held.signal?.aborted ? LOCK_LOST : status;
  } catch (error) {
    const { message } = error as Error;
    throw new Failure(
      errorCode(error) === "ENOMEM" ? OS_ERROR : UNAVAILABLE,
      `failed to execute ${program}: ${message}`,
    );
  } finally {
    clearTimeout(timer);
    for (const [name, listener] of listeners) process.off(name, listener);
  }
}
