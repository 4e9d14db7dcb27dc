/**
 * Passes the signals that this process gets on to the command. Until there is a
 * command, they end the wait for the lock.
 *
 * A terminal sends INT, QUIT and WINCH to all processes of its foreground group,
 * so the command has got them already. So it has got CONT, if a shell has put
 * the group into the foreground. A program that gets INT twice may take the
 * second one for the order to end at once.
 *
 * HUP comes from a terminal that was closed, which this process then does not
 * have any more. The shell or the kernel sends it to all processes of the group,
 * unless this process leads the session, as with `ssh -t`: then to it alone.
 *
 * @module
 */

import { constants } from "node:os";
import process from "node:process";
import type { Host } from "../../../ffi/runtime/host.ts";
import type { CommandCalls } from "../../../ffi/posix/command.ts";
import type { SupervisionCalls } from "../../../ffi/posix/supervision.ts";
import { SIGNAL_STATUS } from "./blocking.ts";

/** How the C library is called. */
export interface Calls {
  readonly command: CommandCalls;
  readonly supervision: SupervisionCalls;
}

/** The signals that end a process that does not handle them. */
const FATAL: readonly NodeJS.Signals[] = [
  "SIGINT",
  "SIGTERM",
  "SIGHUP",
  "SIGQUIT",
  "SIGUSR1",
  "SIGUSR2",
  "SIGALRM",
];
const OTHERS: readonly NodeJS.Signals[] = ["SIGCONT", "SIGWINCH"];

/** Signals that a terminal sends to its foreground group, or its shell does. */
const FROM_TERMINAL: readonly NodeJS.Signals[] = [
  "SIGINT",
  "SIGHUP",
  "SIGQUIT",
  ...OTHERS,
];

/** A signal has come before the command was started. */
export class Interrupted extends Error {
  readonly signal: number;

  constructor(name: NodeJS.Signals) {
    super(`interrupted by ${name}`);
    this.signal = numberOf(name);
  }
}

/** Returns the number of a signal. */
export function numberOf(name: NodeJS.Signals): number {
  return constants.signals[name];
}

/** After how many turns of the event loop listeners have learned of a signal. */
const TURNS = 3;

/** Waits until the listeners have learned of all signals that have come. */
export async function deliverSignals(): Promise<void> {
  for (let turn = 0; turn < TURNS; turn++) {
    await new Promise((resolve) => setTimeout(resolve));
  }
}

/** The signals that this process gets, as long as it listens. */
export class Signals {
  readonly #host: Host;
  readonly #calls: SupervisionCalls | null;
  readonly #command: CommandCalls | null;
  readonly #listeners: (readonly [NodeJS.Signals, () => void])[] = [];
  readonly #received = new Set<number>();
  readonly #interruption = new AbortController();
  #hadTerminal: boolean;
  #send: ((signal: NodeJS.Signals) => void) | undefined;

  /**
   * Starts to listen.
   *
   * @param calls `null` if the C library cannot be called.
   */
  constructor(host: Host, calls: Calls | null) {
    this.#host = host;
    this.#calls = calls?.supervision ?? null;
    this.#command = calls?.command ?? null;
    this.#hadTerminal = calls !== null &&
      calls.supervision.terminal() !== "none";
    for (const name of [...FATAL, ...OTHERS]) {
      const number = numberOf(name) as number | undefined;
      // Windows does not have all of them.
      if (number === undefined) continue;
      // The command ignores it, too.
      if (calls?.command.ignores(number)) continue;
      if (calls?.supervision.isIgnored(number)) continue;
      this.listen(name, () => this.#receive(name));
    }
  }

  /** Aborts with {@linkcode Interrupted} if the command must not start. */
  get interruption(): AbortSignal {
    return this.#interruption.signal;
  }

  /** Calls a function when a signal comes. */
  listen(name: NodeJS.Signals, listener: () => void): void {
    process.on(name, listener);
    this.#listeners.push([name, listener]);
  }

  /** Passes signals on from now on. The command must not have been reaped. */
  passOn(send: ((signal: NodeJS.Signals) => void) | undefined): void {
    this.#send = send;
  }

  /** Whether this process has got a signal. */
  received(signal: number): boolean {
    return this.#received.has(signal);
  }

  /**
   * Ends this process by a signal, as if it had not listened. Returns if the
   * system does not do that.
   */
  endBy(signal: number): void {
    this.#command?.restoreStreams();
    this.#calls?.endBy(signal);
  }

  #receive(name: NodeJS.Signals): void {
    if (FATAL.includes(name)) this.#received.add(numberOf(name));
    if (this.#send) {
      if (!this.#hasReachedCommand(name)) this.#send(name);
    } else if (FATAL.includes(name)) {
      // A second one does not wait for the end of the acquisition.
      if (this.interruption.aborted) this.#end(numberOf(name));
      this.#interruption.abort(new Interrupted(name));
    }
  }

  #end(signal: number): never {
    this.endBy(signal);
    process.exit(SIGNAL_STATUS + signal);
  }

  #hasReachedCommand(name: NodeJS.Signals): boolean {
    if (!FROM_TERMINAL.includes(name)) return false;
    if (!this.#calls) return this.#hasStandardTerminal();
    const terminal = this.#calls.terminal();
    if (name !== "SIGHUP") return terminal === "foreground";
    if (this.#calls.leadsSession) return false;
    // A later one is not that of the terminal.
    const wasClosed = this.#hadTerminal && terminal === "none";
    if (wasClosed) this.#hadTerminal = false;
    return wasClosed || terminal === "foreground";
  }

  #hasStandardTerminal(): boolean {
    return ([0, 1, 2] as const).some((fd) => this.#host.isTerminal(fd));
  }
}
