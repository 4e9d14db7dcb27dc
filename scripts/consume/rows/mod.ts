/** All rows, in the order of the table. */

import type { Row } from "../row.ts";
import { bundlerRows } from "./bundlers.ts";
import { commandRows } from "./command.ts";
import { installerRows } from "./installers.ts";
import { nextRows } from "./next.ts";
import { packagingRows } from "./packaging.ts";
import { runtimeRows } from "./runtimes.ts";
import { standaloneRows } from "./standalone.ts";
import { testRunnerRows } from "./test_runners.ts";
import { typescriptRows } from "./typescript.ts";
import { utilLinuxRows } from "./util_linux.ts";

export const rows: readonly Row[] = [
  ...runtimeRows,
  ...bundlerRows,
  ...standaloneRows,
  ...nextRows,
  ...testRunnerRows,
  ...typescriptRows,
  ...installerRows,
  ...commandRows,
  ...utilLinuxRows,
  ...packagingRows,
];
