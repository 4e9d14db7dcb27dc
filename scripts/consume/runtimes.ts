/** The runtimes on which rows run. */

/** The runtimes, in the order of the columns in `docs/tools.md`. */
export const RUNTIMES = [
  "Node 20",
  "Node 22",
  "Node 24",
  "Node 26",
  "Bun",
  "Deno",
] as const;

export type RuntimeName = typeof RUNTIMES[number];

/** The versions of Node. */
export const NODES: readonly RuntimeName[] = RUNTIMES.filter((name) =>
  name.startsWith("Node")
);
