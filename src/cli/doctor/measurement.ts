/** Starts processes, and lets them try everything. */

import process from "node:process";
import { explained } from "./cannot_test.ts";
import { runContest, runUpdates } from "./contest.ts";
import type { Measured } from "./judge.ts";
import { Parties } from "./parties.ts";
import { prepare } from "./prepare.ts";
import type { View } from "./prepare.ts";
import { Probe, ProbeError } from "./probe_process.ts";
import { FILES } from "./protocol.ts";
import { readsBack, reportsClose, runTrials } from "./trials.ts";
import type {
  Effort,
  ErrorReport,
  LockerName,
  LockerReport,
  PathReport,
  TrialReport,
  ViewReport,
  WriteReport,
} from "./types.ts";
import { killHolder, measureHandOver } from "./waits.ts";

/** The kinds of locks, and the system calls of POSIX. */
const CALLS: Record<LockerName, string> = {
  flock: process.platform === "win32" ? "LockFileEx" : "flock(2)",
  ofd: "fcntl(2) F_OFD_SETLK",
  lockf: "fcntl(2) F_SETLK",
};

const LOCKERS = Object.keys(CALLS) as LockerName[];

/** What to measure, and with which processes. */
interface Plan {
  /** The paths, as they were given. */
  readonly names: readonly string[];
  readonly command: readonly string[];
  readonly effort: Effort;
  readonly signal: AbortSignal;
}

/**
 * Runs all tests.
 *
 * @throws {CannotTest} If they cannot run.
 * @throws The reason of the signal if it is aborted.
 */
export async function measure(plan: Plan): Promise<Measured> {
  const { names, signal } = plan;
  const probes: Probe[] = [];
  const abort = () => {
    for (const probe of probes) probe.fail(signal.reason);
  };
  signal.addEventListener("abort", abort);
  try {
    signal.throwIfAborted();
    return await explained(names[0] ?? "", run(plan, probes));
  } finally {
    signal.removeEventListener("abort", abort);
    // They remove what they have created.
    await Promise.all(probes.map((probe) => probe.end()));
  }
}

/** @param probes Gets each process as soon as it is started. */
async function run(
  { names, command, effort, signal }: Plan,
  probes: Probe[],
): Promise<Measured> {
  const start = () => {
    signal.throwIfAborted();
    const probe = Probe.spawn(command);
    probes.push(probe);
    return probe.start();
  };
  // A path that cannot be tested costs one process.
  const creator = await start();
  const views = await prepare(creator, names);
  const directory = views[0]!.directory;
  const others = await Promise.all(
    Array.from({ length: effort.processes - 1 }, async () => {
      const probe = await start();
      // All of them clean up, whichever is the last to end.
      await probe.call("adopt", directory);
      return probe;
    }),
  );
  await creator.call("create", directory, allFiles(views.length));
  const parties = new Parties([creator, ...others], views);
  const measurement = new Measurement(views, parties, effort);
  return { ...await creator.call("machine"), ...await measurement.run() };
}

/** The names of all files that are locked. */
function allFiles(views: number): string[] {
  const files: string[] = Object.values(FILES);
  for (const locker of LOCKERS) {
    files.push(locker, contestFile(locker));
    for (let i = 0; i < views * views; i++) {
      files.push(readFile(locker, i), killFile(locker, i));
    }
  }
  return files;
}

const contestFile = (locker: LockerName) => `${locker}.contest`;
const readFile = (locker: LockerName, pair: number) => `${locker}.read${pair}`;
const killFile = (locker: LockerName, pair: number) => `${locker}.kill${pair}`;

/** One run of all tests. */
class Measurement {
  readonly #views: readonly View[];
  readonly #parties: Parties;
  readonly #effort: Effort;

  constructor(views: readonly View[], parties: Parties, effort: Effort) {
    this.#views = views;
    this.#parties = parties;
    this.#effort = effort;
  }

  async run(): Promise<Omit<Measured, "runtime" | "inotify">> {
    const lockers = await Promise.all(
      LOCKERS.map((locker) => this.#attempt(locker)),
    );
    const usable = lockers.filter(({ error }) => error === null);
    for (const pair of this.#pairs()) await this.#measurePair(usable, pair);
    for (const report of usable.filter(releasesAll)) {
      const { locker } = report;
      const parties = this.#parties.all(contestFile(locker));
      const { acquisitions } = this.#effort;
      report.contest = await runContest(parties, locker, acquisitions);
    }
    const kindsConflict = await this.#kindsConflict(usable);
    const writes = await this.#writes(usable);
    // The last test, because it needs a process less than the others.
    await this.#kill(usable);
    return {
      paths: this.#views.map(toPathReport),
      lockers,
      kindsConflict,
      writes,
    };
  }

  /** Each path as that of the holder, with each as that of the contender. */
  #pairs(): [holder: number, contender: number][] {
    const indexes = this.#views.map((_, index) => index);
    return indexes.flatMap((holder) =>
      indexes.map((contender): [number, number] => [holder, contender])
    );
  }

  /** Attempts to lock once by each path, to see whether the system refuses. */
  async #attempt(locker: LockerName): Promise<LockerReport> {
    let error: ErrorReport | null = null;
    try {
      for (const [index] of this.#views.entries()) {
        const { probe, path } = this.#parties.holder(locker, index);
        for (const exclusive of [true, false]) {
          await probe.call("hold", path, { locker, exclusive });
          await probe.call("drop", path);
        }
      }
    } catch (cause) {
      if (!(cause instanceof ProbeError)) throw cause;
      error = cause.report;
    }
    return {
      locker,
      call: CALLS[locker],
      state: "works",
      error,
      views: [],
      contest: null,
    };
  }

  /** Measures a pair of paths with each kind of lock. */
  async #measurePair(
    lockers: readonly LockerReport[],
    [held, requested]: [number, number],
  ): Promise<void> {
    const parties = (file: string) =>
      [
        this.#parties.holder(file, held),
        this.#parties.contender(file, requested),
      ] as const;
    const { handOvers, releaseTimeout } = this.#effort;
    const woken = await reportsClose(...parties(FILES.watched), FILES.fence);
    const index = held * this.#views.length + requested;
    await Promise.all(lockers.map(async ({ locker, views }) => {
      const pair = parties(locker);
      const trials = await runTrials(...pair, locker, releaseTimeout);
      const released = isReleased(trials);
      views.push({
        holder: this.#views[held]!.name,
        contender: this.#views[requested]!.name,
        trials,
        readsBack: released
          ? await readsBack(...parties(readFile(locker, index)), locker)
          : null,
        waiting: released
          ? await measureHandOver(...pair, {
            locker,
            woken,
            times: handOvers,
            timeout: releaseTimeout,
          })
          : null,
        killed: null,
      });
    }));
  }

  /** Kills a process that holds a lock by each path, and of each kind. */
  async #kill(lockers: readonly LockerReport[]): Promise<void> {
    const bequests = this.#pairs().flatMap(([held, requested], pair) =>
      lockers.map(({ locker, views }) => ({
        locker,
        view: views[pair]!,
        held: this.#parties.victim(killFile(locker, pair), held),
        waiter: this.#parties.holder(killFile(locker, pair), requested),
      }))
    ).filter(({ view }) => isReleased(view.trials));
    const reports = await killHolder(bequests, this.#effort.releaseTimeout);
    for (const [index, { view }] of bequests.entries()) {
      view.killed = reports[index]!;
    }
  }

  async #kindsConflict(
    usable: readonly LockerReport[],
  ): Promise<boolean | null> {
    const has = (name: LockerName) =>
      usable.some(({ locker }) => locker === name);
    if (!has("flock") || !has("ofd")) return null;
    const holder = this.#parties.holder(FILES.conflict);
    const contender = this.#parties.contender(FILES.conflict);
    const exclusive = true;
    await holder.probe.call("hold", holder.path, {
      locker: "flock",
      exclusive,
    });
    const { locked } = await contender.probe.call("hold", contender.path, {
      locker: "ofd",
      exclusive,
    });
    await contender.probe.call("drop", contender.path);
    await holder.probe.call("drop", holder.path);
    return !locked;
  }

  async #writes(usable: readonly LockerReport[]): Promise<WriteReport> {
    const { directory } = this.#views[0]!;
    const { probe } = this.#parties.holder(FILES.updated);
    const report = await probe.call("writes", directory);
    const flock = usable.find(({ locker }) => locker === "flock");
    if (flock === undefined || !releasesAll(flock)) return report;
    const parties = this.#parties.all(FILES.updated);
    try {
      const updates = await runUpdates(parties, this.#effort.updates);
      return { ...report, updates };
    } catch (cause) {
      if (!(cause instanceof ProbeError)) throw cause;
      return { ...report, error: report.error ?? cause.report };
    }
  }
}

/** Whether each lock was released. If not, to lock again takes seconds. */
function isReleased(trials: readonly TrialReport[]): boolean {
  return trials.every(({ acquiredAfterRelease }) => acquiredAfterRelease);
}

function releasesAll({ views }: LockerReport): boolean {
  return views.every(({ trials }: ViewReport) => isReleased(trials));
}

function toPathReport({ name, facts }: View): PathReport {
  const { type, ...report } = facts;
  return { path: name, ...report, type: type === "file" ? type : "directory" };
}
