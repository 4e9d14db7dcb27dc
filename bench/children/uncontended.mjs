/** The child's side of the scenario of that name. */

import { clockCost, measure, measureSync } from "./measure.mjs";

export async function uncontended(
  { isSync, make, driven },
  path,
  warmUp,
  milliseconds,
) {
  const locker = make(path, driven);
  const run = isSync ? measureSync : measure;
  await run(locker, Number(warmUp));
  const samples = await run(locker, Number(milliseconds));
  return { clock: clockCost(), samples };
}
