/** What the rows of `npm run consume` are. */

import type { Program } from "./programs.ts";
import type { RuntimeName } from "./runtimes.ts";
import type { Workspace } from "./workspace.ts";

export type { Program } from "./programs.ts";
export { NODES, type RuntimeName, RUNTIMES } from "./runtimes.ts";

/** Checks the result of {@linkcode Row.prepare} on one runtime. */
export type Check = (program: Program) => Promise<void>;

/** One way to consume the package. */
export interface Row {
  /** What consumes the package. */
  readonly tool: string;
  /** Which of its modes, and which settings that needs. */
  readonly setting: string;
  /** Where the result runs. Empty if `prepare` checks everything. */
  readonly runtimes: readonly RuntimeName[];
  /** The runtimes on which a waiter polls instead of being woken. */
  readonly polls?: readonly RuntimeName[];
  /** Whether only `npm run consume:all` runs it. */
  readonly heavy?: boolean;
  /** Builds or installs what the checks run. */
  prepare(workspace: Workspace): Check | Promise<Check | void>;
}

/** Returns the name of a row in messages. */
export function titleOf({ tool, setting }: Row): string {
  return setting === "" ? tool : `${tool}, ${setting}`;
}
