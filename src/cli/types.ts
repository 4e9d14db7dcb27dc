/** What several files of the command pass to each other. */

import type { Variables } from "../../ffi/posix/caller.ts";
import type { CommandCalls } from "../../ffi/posix/command.ts";
import type { Invocation, Target } from "./grammar/options.ts";
import type { Host } from "../../ffi/runtime/host.ts";

/** What to run. */
export type Program = Exclude<Target, { fd: number }>;

/** What to do with a lock that a program runs under. */
export interface RunInvocation extends Invocation {
  readonly target: Program;
}

/** The runtime and the system. */
export interface System {
  readonly host: Host;
  readonly calls: CommandCalls;
}

/** A file that is locked, or is to be. */
export interface OpenLock {
  fd: number;
  /** What messages call it. */
  readonly name: string;
  /** Set if it was opened here, for reading only. */
  reopen?: string;
}

/** A lock that is held. */
export interface HeldLock {
  /** The descriptor that keeps it, if there is one. */
  readonly fd: number | null;
  /** Aborts when the lock is lost. */
  readonly signal?: AbortSignal;
  /** Variables that the environment of the program has in addition. */
  readonly environment?: Variables;
  /** Called as soon as the program has a PID. */
  onStarted?(pid: number): void;
  release(): Promise<void>;
}
