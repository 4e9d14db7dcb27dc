/** All rows, in the order of the table. */

import type { Row } from "../row.ts";
import { bundlerRows } from "./bundlers.ts";
import { runtimeRows } from "./runtimes.ts";
import { standaloneRows } from "./standalone.ts";

export const rows: readonly Row[] = [
  ...runtimeRows,
  ...bundlerRows,
  ...standaloneRows,
];
