/**
 * All scenarios by name, in the order of the report. Each exports
 *
 * - `title` and `COLUMNS` (`title` and `cell`, the text for a result),
 * - `ROUNDS`, how many there are unless the command line says otherwise,
 * - `run(contenders, folder, options)`: `results`, one per row, and `failed`,
 * - `method(options, results)`: a line that says how it was measured,
 * - `aims(results)`: what the results are held against, see `aims.mjs`,
 * - `probe(command, folder)`, if `uncontended` cannot try its contenders:
 *   resolves to the runtime of a command; rejects if it is broken.
 */

import * as contention from "./contention.mjs";
import * as crowd from "./crowd.mjs";
import * as handover from "./handover.mjs";
import * as idle from "./idle.mjs";
import * as redisHandover from "./redis_handover.mjs";
import * as redisKilled from "./redis_killed.mjs";
import * as redisUncontended from "./redis_uncontended.mjs";
import * as uncontended from "./uncontended.mjs";
import * as update from "./update.mjs";

export const SCENARIOS = {
  uncontended,
  handover,
  contention,
  update,
  crowd,
  idle,
  "redis-uncontended": redisUncontended,
  "redis-handover": redisHandover,
  "redis-killed": redisKilled,
};

/** Tries a command of a contender, in the way of its first scenario. */
export function probe({ scenarios: [first] }, command, folder) {
  const { probe = uncontended.probe } = SCENARIOS[first];
  return probe(command, folder);
}
