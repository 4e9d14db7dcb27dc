/**
 * Reports a wait on standard error.
 *
 * - On a terminal, a line says for which process the command waits. It is drawn
 *   again every second, and removed at the end, also if that is Ctrl-C. In the
 *   background, it is not drawn.
 * - Elsewhere, one line is written after a second, when the reason is known.
 * - With `--quiet`, nothing is written.
 *
 * S is SIGINT, while this process listens to it to remove the line. D restores
 * the effect that S had, and T is a turn of the event loop, in which the listener
 * learns of S. The wait ends at W, which is followed by D and T.
 *
 * 1. `S T`: the listener removes the line, and this process ends by S.
 * 2. `S W D T`: as 1, so that S is not lost and no command starts.
 * 3. `W S D T`: as 2.
 * 4. `W D S`: this process ends by S at once. The line is removed already.
 *
 * @module
 */

import { constants } from "node:os";
import process from "node:process";
import type { CommandCalls } from "../../../ffi/posix/command.ts";
import type { Host } from "../../../ffi/runtime/host.ts";
import { formatName, printable } from "../../options/validate.ts";
import { deliverSignals } from "./signals.ts";

/** After which wait a line is written, and how often it is drawn, in ms. */
export const REPORT_AFTER_MS = 1000;

/** Erases the line of a terminal: ECMA-48, CR and EL. */
const ERASE_LINE = "\r\x1b[K";

const STDERR = 2;

/** The width of a terminal that does not report it. */
const DEFAULT_COLUMNS = 80;

/** How much of a long name is shown if the terminal is narrow, in columns. */
const MIN_NAME_COLUMNS = 16;

/** A running report. */
export interface WaitReport {
  /** Whether the line is drawn again and again. */
  readonly isRedrawn: boolean;
  /** Ends the report. */
  stop(): void | Promise<void>;
}

/** What is reported. */
export interface Wait {
  /** What is locked. */
  readonly name: string;
  readonly quiet: boolean;
  /**
   * Returns why the command waits, such as `"locked by process 4711 (node)"`, or
   * `""` if that is not known.
   */
  state(): string;
}

/**
 * Starts the report.
 *
 * @param calls `null` if the C library cannot be called.
 * @param endsBySignal Whether SIGINT ends this process. The report removes its
 * line first.
 */
export function reportWait(
  host: Host,
  calls: CommandCalls | null,
  wait: Wait,
  endsBySignal: boolean,
): WaitReport {
  if (wait.quiet) return { isRedrawn: false, stop() {} };
  const start = performance.now();
  const seconds = () => Math.round((performance.now() - start) / 1000);
  if (!host.isTerminal(2)) {
    const timer = setInterval(() => {
      // A server may take longer to say what holds the lock.
      if (wait.state() === "") return;
      clearInterval(timer);
      host.write(2, `${waitLine(wait, seconds(), Infinity)}\n`);
    }, REPORT_AFTER_MS);
    return { isRedrawn: false, stop: () => clearInterval(timer) };
  }
  let end: (() => void | Promise<void>) | undefined;
  const timer = setInterval(() => {
    // Else a program in the foreground has the line.
    if (calls && !calls.isForeground(STDERR)) return;
    end ??= eraseAtEnd(host, endsBySignal ? calls : null);
    const columns = host.columns() || DEFAULT_COLUMNS;
    host.write(2, ERASE_LINE + waitLine(wait, seconds(), columns));
  }, REPORT_AFTER_MS);
  return {
    isRedrawn: true,
    stop() {
      clearInterval(timer);
      return end?.();
    },
  };
}

/** Returns a function that erases the line. SIGINT calls it, too. */
function eraseAtEnd(
  host: Host,
  calls: CommandCalls | null,
): () => void | Promise<void> {
  const erase = () => host.write(2, ERASE_LINE);
  if (!calls || calls.ignores(constants.signals.SIGINT)) return erase;
  const onSignal = () => {
    erase();
    calls.resetSignals();
    calls.restoreStreams();
    process.kill(process.pid, "SIGINT");
  };
  process.on("SIGINT", onSignal);
  return async () => {
    erase();
    calls.resetSignals();
    await deliverSignals();
    process.off("SIGINT", onSignal);
  };
}

/** The line that reports a wait. It has fewer columns than the terminal. */
export function waitLine(
  { name, state }: Pick<Wait, "name" | "state">,
  seconds: number,
  columns: number,
): string {
  const why = state();
  const [before, after] = [
    "portalock: waiting for ",
    printable(`${why === "" ? "" : `, ${why}`} (${seconds} s)`),
  ];
  const room = columns - 1 - widthOf(before + after);
  const shown = keepEnd(formatName(name), Math.max(room, MIN_NAME_COLUMNS));
  return keepStart(before + shown + after, columns - 1);
}

/** The columns of a character: at most 1 up to U+02FF, and else at most 2. */
const columnsOf = (character: string) => character > "\u02ff" ? 2 : 1;

function widthOf(text: string): number {
  return Array.from(text, columnsOf).reduce((sum, each) => sum + each, 0);
}

/** Drops characters at the end that do not fit. */
function keepStart(text: string, columns: number): string {
  let rest = columns;
  const characters = [...text];
  const end = characters.findIndex((each) => (rest -= columnsOf(each)) < 0);
  return end < 0 ? text : characters.slice(0, end).join("");
}

/** Drops characters at the start that do not fit: the end says which file it is. */
function keepEnd(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  const reversed = (part: string) => [...part].reverse().join("");
  const mark = "…";
  return mark + reversed(keepStart(reversed(text), columns - widthOf(mark)));
}
