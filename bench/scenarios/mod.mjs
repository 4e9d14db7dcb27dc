/**
 * All scenarios by name, in the order of the report. Each exports
 *
 * - `title` and `COLUMNS` (`title` and `cell`, the text for a result),
 * - `ROUNDS`, how many there are unless the command line says otherwise,
 * - `run(contenders, folder, options)`: `results`, one per row, and `failed`,
 * - `method(options, results)`: a line that says how it was measured,
 * - `aims(results)`: what the results are held against, see `aims.mjs`.
 */

import * as contention from "./contention.mjs";
import * as crowd from "./crowd.mjs";
import * as handover from "./handover.mjs";
import * as idle from "./idle.mjs";
import * as uncontended from "./uncontended.mjs";

export const SCENARIOS = { uncontended, handover, contention, crowd, idle };
