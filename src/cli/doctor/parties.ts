/** Which process locks, and by which path. */

import { join } from "node:path";
import type { Probe } from "./probe_process.ts";
import type { View } from "./prepare.ts";

/** A process, and the path by which it locks a file. */
export interface Party {
  readonly probe: Probe;
  readonly path: string;
}

/** All processes and all paths of a diagnosis. */
export class Parties {
  readonly #probes: readonly Probe[];
  readonly #views: readonly View[];

  constructor(probes: readonly Probe[], views: readonly View[]) {
    this.#probes = probes;
    this.#views = views;
  }

  /** The process that holds a lock, and a file by one of the paths. */
  holder(file: string, view = 0): Party {
    return this.#party(0, file, view);
  }

  /** The process that requests a lock. */
  contender(file: string, view = 0): Party {
    return this.#party(1, file, view);
  }

  /** The process that is killed at the end. */
  victim(file: string, view: number): Party {
    return this.#party(this.#probes.length - 1, file, view);
  }

  /** All processes. The paths take turns. */
  all(file: string): Party[] {
    return this.#probes.map((_, index) =>
      this.#party(index, file, index % this.#views.length)
    );
  }

  #party(index: number, file: string, view: number): Party {
    const { directory } = this.#views[view]!;
    return { probe: this.#probes[index]!, path: join(directory, file) };
  }
}
