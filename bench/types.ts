/** The types that contenders, scenarios and reports share. */

/** A program and its first arguments. */
export type Command = readonly [program: string, ...args: string[]];

/** The commands of a contender. */
export type Commands = readonly [first: Command, ...others: Command[]];

/** What tables and thresholds need to know of a contender. */
export interface ContenderInfo {
  /** For the command line and `results.json`. */
  readonly name: string;
  /** For tables and figures. */
  readonly label: string;
  /** Whether it is this package. */
  readonly ours?: boolean | undefined;
  /** Selects its thresholds, and in `update` what it is compared with. */
  readonly kind?: string | undefined;
  readonly withoutFfi?: boolean | undefined;
}

/** A contender that may be missing on this machine. */
export interface ContenderDefinition extends ContenderInfo {
  /** The names of the scenarios that it takes part in. */
  readonly scenarios: readonly string[];
  /**
   * The pause between two attempts of a contender that polls, in milliseconds.
   * The release in a hand-over falls at a random time within it.
   */
  readonly pollInterval?: number | undefined;
  /** Why it is skipped if {@linkcode ContenderDefinition.find} finds nothing. */
  readonly missing: string;
  /**
   * Returns its commands, given a temporary folder, or `undefined` if something
   * is not installed. The four processes of `contention` and `update` use the
   * commands in turn; the other scenarios use the first.
   */
  find(folder: string): Commands | undefined;
}

/** A contender that works on this machine. */
export interface Contender extends ContenderInfo {
  readonly scenarios: readonly string[];
  readonly pollInterval?: number | undefined;
  /** The first of its commands. */
  readonly command: Command;
  readonly commands: Commands;
  /** The runtime of each command, with its version. */
  readonly runtimes: readonly string[];
}

/** A contender without results, and why. */
export interface Unmeasured extends ContenderInfo {
  readonly reason: string;
}

/** A contender that is not installed or does not work. */
export interface Skipped extends Unmeasured {
  readonly scenarios: readonly string[];
}

/** A column of a table. */
export interface Column<Result> {
  readonly title: string;
  cell(result: Result): string;
}

/** What this package's results of one kind are compared with. */
export interface Threshold<Result> {
  readonly kind: string;
  /** Names what is compared, after the kind. */
  readonly text: string;
  /** The largest figure that passes. */
  readonly atMost?: number;
  /** The smallest figure that passes. */
  readonly atLeast?: number;
  /** Contenders without FFI do not get a line. */
  readonly onlyWithFfi?: boolean;
  /** A contender that failed for a reason that starts so misses the threshold. */
  readonly refutedBy?: string;
  /** Returns the figure of a result, or `null` if it is not known. */
  figure(result: Result): number | null;
  format(figure: number): string;
}

/** What the command line says about a run. */
export interface RunOptions {
  readonly rounds: number;
  /** How long `contention`, `update` and `idle` measure. */
  readonly seconds: number;
  /** Whether processors are kept awake during hand-overs. */
  readonly awake: boolean;
}

/** What a scenario measured, and which contenders failed meanwhile. */
export interface Measured<Result> {
  readonly results: readonly Result[];
  readonly failed: readonly Unmeasured[];
}

/** {@linkcode Measured}, with what the report adds. */
export interface Outcome<Result> extends Measured<Result> {
  /** How it was measured. */
  readonly method: string;
  /** How long the scenario took. */
  readonly seconds: number;
  /** The contenders without results, failed or skipped. */
  readonly missing: readonly Unmeasured[];
}

/** A module of `scenarios/`. */
export interface Scenario<Result = ContenderInfo> {
  readonly title: string;
  readonly COLUMNS: readonly Column<Result>[];
  /** How many rounds it has by default. */
  readonly ROUNDS: number;
  run(
    contenders: readonly Contender[],
    folder: string,
    options: RunOptions,
  ): Promise<Measured<Result>>;
  /** Returns a line that says how it was measured. */
  method(options: RunOptions, results: readonly Result[]): string;
  thresholds(results: readonly Result[]): readonly Threshold<Result>[];
  /**
   * Resolves to the runtime of a command, or rejects if the contender does not
   * work. Without it, {@linkcode probe} of `uncontended` tries the contender.
   */
  probe?(command: Command, folder: string): Promise<string>;
}
