import type { Effort } from "../../../src/cli/doctor/mod.ts";

/** Enough for what every attempt shows. */
export const QUICK: Effort = {
  processes: 2,
  acquisitions: 4,
  updates: 2,
  handOvers: 1,
  releaseTimeout: 10_000,
};
