/**
 * `portalock doctor`: finds out whether a file system can lock.
 *
 * Child processes, the probes, do everything that touches the paths. So this
 * process answers to signals even if a file system does not answer. A probe is
 * this program, started once more: see {@linkcode PROBE_ARGUMENT}.
 *
 * @module
 */

import { basename, join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { selfCommand } from "../../../ffi/mod.ts";
import { LockException, toOpenError } from "../../core/errors.ts";
import { absolute } from "../../core/paths.ts";
import {
  filePath,
  formatName,
  rejectUnknownOptions,
} from "../../options/validate.ts";
import { resolveLocker } from "../../options/locker.ts";
import { countStale, findOverlaps } from "./contest.ts";
import type { Section } from "./contest.ts";
import { judge, UNAVAILABLE } from "./judge.ts";
import type { Measured } from "./judge.ts";
import { withInterrupts } from "./interrupt.ts";
import { Probe, ProbeError } from "./probe_process.ts";
import { DIRECTORY_PREFIX, FILES, PROBE_ARGUMENT } from "./protocol.ts";
import type { PathFacts } from "./protocol.ts";
import {
  killHolder,
  measureHandOver,
  reportsClose,
  runTrials,
} from "./trials.ts";
import type { Party } from "./trials.ts";
import type {
  ContestReport,
  DiagnoseOptions,
  Diagnosis,
  ErrorReport,
  LockerName,
  LockerReport,
  PathReport,
  TrialReport,
  UpdateReport,
  ViewReport,
  WriteReport,
} from "./types.ts";

export { formatDiagnosis } from "./format.ts";
export { runProbe } from "./probe.ts";
export { PROBE_ARGUMENT } from "./protocol.ts";
export type * from "./types.ts";

const OPTIONS: Record<keyof DiagnoseOptions, true> = {
  locker: true,
  command: true,
  signal: true,
};

/** The kinds of locks, and the system calls of POSIX. */
const CALLS: Record<LockerName, string> = {
  flock: process.platform === "win32" ? "LockFileEx" : "flock(2)",
  ofd: "fcntl(2) F_OFD_SETLK",
  lockf: "fcntl(2) F_SETLK",
};

const LOCKERS = Object.keys(CALLS) as LockerName[];

/** How many processes contend, and how long. */
const CONTENDERS = 4;
const CONTEST_MS = 300;

/** How often each of them calls `updateFile`. */
const UPDATES = 10;

/** How long the updates may take. */
const UPDATES_MS = 60_000;

/** How long a new directory may stay invisible through another mount. */
const VISIBLE_MS = 3000;
const VISIBLE_POLL_MS = 20;

/**
 * Finds out whether the file system of a path can lock, with processes that try
 * to overlap. They lock new files, in a new directory beside or below the path.
 * Nothing that exists is changed or locked, and nothing is left behind, also if
 * the process is killed meanwhile. It takes about three seconds.
 *
 * The program must call {@linkcode runProbe}, and do nothing else, if its first
 * argument is {@linkcode PROBE_ARGUMENT}.
 *
 * @example
 * ```ts ignore
 * import { diagnose, formatDiagnosis } from "./mod.ts";
 *
 * const diagnosis = await diagnose(["/srv/data"]);
 * console.log(formatDiagnosis(diagnosis));
 * process.exitCode = diagnosis.verdict === "broken" ? 1 : 0;
 * ```
 *
 * @param paths A directory or a file, or two views of one directory, such as
 * two mounts of it.
 * @param options What decides, and how to start the processes.
 * @returns What was measured.
 * @throws {TypeError} If an argument or an option is of the wrong type.
 * @throws {RangeError} If there is not one path or two, or an option has an
 * invalid value.
 * @throws {LockUnsupported} If the runtime cannot lock at all.
 * @throws {LockException} If the tests cannot run: a path does not exist, no
 * file can be created, two paths are not the same directory, or the file system
 * does not answer. The message says what to do.
 * @throws The reason of `signal` if it is aborted.
 */
export async function diagnose(
  paths: readonly (string | URL)[],
  options: DiagnoseOptions = {},
): Promise<Diagnosis> {
  rejectUnknownOptions(options, OPTIONS);
  if (!Array.isArray(paths)) throw new TypeError("paths must be an array");
  if (paths.length !== 1 && paths.length !== 2) {
    throw new RangeError(`paths must be one path or two, not ${paths.length}`);
  }
  const names = paths.map((path) => filePath(path));
  const { name: locker } = resolveLocker(options.locker);
  const command = options.command ?? ownCommand(names[0] ?? "");
  if (process.argv.includes(PROBE_ARGUMENT)) {
    throw new Error(
      `the program has started itself with ${PROBE_ARGUMENT} and does not ` +
        "call runProbe()",
    );
  }
  const start = performance.now();
  const measured = await withInterrupts(
    options.signal,
    (signal) => measure(names, command, signal),
  );
  const duration = performance.now() - start;
  return { ...measured, ...judge(measured, locker), locker, duration };
}

/** Returns the command that starts this program as a probe. */
function ownCommand(name: string): string[] {
  try {
    return [...selfCommand(), PROBE_ARGUMENT];
  } catch (error) {
    throw toOpenError({ path: name }, error);
  }
}

/** All probes of one diagnosis. */
class Probes {
  readonly #command: readonly string[];
  readonly #all: Probe[] = [];

  constructor(command: readonly string[]) {
    this.#command = command;
  }

  /** Starts a number of probes, at the same time. */
  start(count: number): Promise<Probe[]> {
    const started = Array.from({ length: count }, () => {
      const probe = Probe.spawn(this.#command);
      this.#all.push(probe);
      return probe;
    });
    return Promise.all(started.map((probe) => probe.start()));
  }

  /** Rejects every command. */
  fail(error: unknown): void {
    for (const probe of this.#all) probe.fail(error);
  }

  /** Ends all of them. They remove what they have created. */
  async end(): Promise<void> {
    await Promise.all(this.#all.map((probe) => probe.end()));
  }
}

async function measure(
  names: readonly string[],
  command: readonly string[],
  signal: AbortSignal,
): Promise<Measured> {
  const probes = new Probes(command);
  const abort = () => probes.fail(signal.reason);
  signal.addEventListener("abort", abort);
  try {
    if (signal.aborted) throw signal.reason;
    return await new Measurement(names, probes).run();
  } finally {
    signal.removeEventListener("abort", abort);
    await probes.end();
  }
}

/** A path, and the directory of the tests as this path names it. */
interface View {
  readonly name: string;
  readonly facts: PathFacts;
  readonly directory: string;
}

/** One run of all tests. */
class Measurement {
  readonly #names: readonly string[];
  readonly #probes: Probes;
  #contenders: Probe[] = [];
  #views: View[] = [];

  constructor(names: readonly string[], probes: Probes) {
    this.#names = names;
    this.#probes = probes;
  }

  /** @throws {LockException} If the tests cannot run. */
  run(): Promise<Measured> {
    return explained(this.#names[0] ?? "", this.#run());
  }

  async #run(): Promise<Measured> {
    const { length } = this.#names;
    // A probe that will be killed, for each pair of paths.
    const [contenders, victims] = await Promise.all([
      this.#probes.start(CONTENDERS),
      this.#probes.start(length * length),
    ]);
    this.#contenders = contenders;
    this.#views = await this.#prepare();
    await this.#adopt(victims);
    const [first] = contenders;
    const lockers = await this.#lockers(victims);
    const kindsConflict = await this.#kindsConflict(lockers);
    const writes = await this.#writes(lockers);
    return {
      paths: this.#views.map(toPathReport),
      ...await first!.call("machine"),
      lockers,
      kindsConflict,
      writes,
    };
  }

  /** The probe of a path, of which each has two. */
  #probeOf(view: number, index: number): Probe {
    const all = this.#contenders;
    return all[(index * this.#views.length + view) % all.length]!;
  }

  /** Creates the directory of the tests, and finds it by the other path. */
  async #prepare(): Promise<View[]> {
    const [creator, other] = this.#contenders as [Probe, Probe];
    const [name, otherName] = this.#names as [string, string?];
    const facts = await examine(creator, name);
    const otherFacts = otherName === undefined
      ? undefined
      : await examine(other, otherName);
    const created = await create(creator, name, facts);
    const views = [{
      name,
      facts,
      directory: join(facts.directory, created),
    }];
    if (otherName !== undefined && otherFacts !== undefined) {
      const directory = join(otherFacts.directory, created);
      await findAgain(other, directory, name, otherName);
      views.push({ name: otherName, facts: otherFacts, directory });
    }
    return views;
  }

  /** All probes clean up, whichever of them is the last to end. */
  async #adopt(victims: readonly Probe[]): Promise<void> {
    const [first] = this.#views as [View];
    const all = [...this.#contenders, ...victims];
    await Promise.all(
      all.map((probe) => probe.call("adopt", first.directory)),
    );
    const [creator] = this.#contenders as [Probe];
    const names = [...LOCKERS, ...LOCKERS.map(contestFile)];
    for (const name of [...names, ...Object.values(FILES)]) {
      await creator.call("create", join(first.directory, name));
    }
  }

  async #lockers(victims: Probe[]): Promise<LockerReport[]> {
    const reports = await Promise.all(
      LOCKERS.map((locker) => this.#attempt(locker)),
    );
    const usable = reports.filter(({ error }) => error === null);
    const pairs = this.#pairs();
    for (const [index, pair] of pairs.entries()) {
      const views = await this.#view(
        usable.map(({ locker }) => locker),
        pair,
        victims[index]!,
      );
      for (const report of usable) report.views.push(views.get(report.locker)!);
    }
    for (const report of usable.filter(releasesAll)) {
      report.contest = await this.#contest(report.locker);
    }
    return reports;
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
        const { probe, path } = this.#party(index, 0, locker);
        for (const exclusive of [true, false]) {
          await probe.call("hold", path, { locker, exclusive });
          await probe.call("drop", path);
        }
      }
    } catch (cause) {
      if (!(cause instanceof ProbeError)) throw cause;
      error = withoutPath(cause.report);
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

  #party(view: number, index: number, file: string): Party {
    const { directory } = this.#views[view]!;
    return { probe: this.#probeOf(view, index), path: join(directory, file) };
  }

  async #view(
    lockers: readonly LockerName[],
    [held, requested]: [number, number],
    victim: Probe,
  ): Promise<Map<LockerName, ViewReport>> {
    const holder = (file: string) => this.#party(held, 0, file);
    const contender = (file: string) => this.#party(requested, 1, file);
    const { watched } = FILES;
    const woken = await reportsClose(holder(watched), contender(watched));
    const reports = await Promise.all(lockers.map(async (locker) => {
      const pair = [holder(locker), contender(locker), locker] as const;
      const trials = await runTrials(...pair);
      const waiting = isReleased(trials)
        ? await measureHandOver(...pair, woken)
        : null;
      return [locker, { trials, waiting }] as const;
    }));
    const released = reports.filter(([, { trials }]) => isReleased(trials));
    const kills = await killHolder(
      released.map(([locker]) => ({
        locker,
        held: { ...holder(locker), probe: victim },
        waiter: contender(locker),
      })),
    );
    return new Map(
      reports.map(([locker, report]) => [locker, {
        holder: this.#views[held]!.name,
        contender: this.#views[requested]!.name,
        ...report,
        killed: kills.get(locker) ?? null,
      }]),
    );
  }

  async #contest(locker: LockerName): Promise<ContestReport> {
    const parties = this.#contenders.map((_, index) =>
      this.#anyParty(index, contestFile(locker))
    );
    const results = await Promise.all(
      parties.map(({ probe, path }) =>
        probe.callFor(CONTEST_MS, "contend", path, locker, CONTEST_MS)
      ),
    );
    const sections = results.flatMap((result, index) =>
      result.sections.map(([enter, leave, exclusive]): Section => {
        const { probe } = parties[index]!;
        const { time, error } = probe.toOwnTime(enter);
        return {
          process: index,
          exclusive,
          enter: time + error,
          leave: probe.toOwnTime(leave).time - error,
        };
      })
    );
    const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);
    const overlaps = findOverlaps(
      sections.filter(({ enter, leave }) => enter < leave),
    );
    return {
      processes: parties.length,
      duration: CONTEST_MS,
      acquired: sections.length,
      waited: sum(results.map(({ waited }) => waited)),
      overlaps: overlaps.count,
      longestOverlap: overlaps.longest,
      gaveUp: results.filter(({ gaveUp }) => gaveUp).length,
      staleReads: countStale(results.flatMap(({ reads }) => reads)),
    };
  }

  /** The paths take turns. */
  #anyParty(index: number, file: string): Party {
    const { directory } = this.#views[index % this.#views.length]!;
    return { probe: this.#contenders[index]!, path: join(directory, file) };
  }

  async #kindsConflict(
    lockers: readonly LockerReport[],
  ): Promise<boolean | null> {
    const usable = (name: LockerName) =>
      lockers.some(({ locker, error }) => locker === name && error === null);
    if (!usable("flock") || !usable("ofd")) return null;
    const holder = this.#party(0, 0, FILES.conflict);
    const contender = this.#party(0, 1, FILES.conflict);
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

  async #writes(lockers: readonly LockerReport[]): Promise<WriteReport> {
    const [{ directory }] = this.#views as [View];
    const [probe] = this.#contenders as [Probe];
    const report = await probe.call("writes", directory);
    const flock = lockers.find(({ locker }) => locker === "flock");
    if (flock === undefined || !releasesAll(flock)) return report;
    try {
      return { ...report, updates: await this.#updates() };
    } catch (cause) {
      if (!(cause instanceof ProbeError)) throw cause;
      return { ...report, error: report.error ?? cause.report };
    }
  }

  async #updates(): Promise<UpdateReport> {
    const parties = this.#contenders.map((_, index) =>
      this.#anyParty(index, FILES.updated)
    );
    const counts = await Promise.all(
      parties.map(({ probe, path }) =>
        probe.callFor(UPDATES_MS, "update", path, UPDATES)
      ),
    );
    const made = counts.reduce((a, b) => a + b, 0);
    const { probe, path } = parties[0]!;
    const lost = Math.max(0, made - await probe.call("count", path));
    return { processes: parties.length, made, lost };
  }
}

/**
 * Returns an error of the system without the path of the test, and without the
 * advice at its end.
 */
function withoutPath({ code, message }: ErrorReport): ErrorReport {
  if (code === UNAVAILABLE) return { code, message: reasonOf(message) };
  return { code, message: reasonOf(message).replace(/; .*$/s, "") };
}

/** The path of a file of the tests means nothing to the reader. */
function reasonOf(message: string): string {
  return message.includes(DIRECTORY_PREFIX)
    ? message.replace(/^Cannot lock .*[\\/](flock|ofd|lockf)"?: /, "")
    : message;
}

/** Whether each lock was released. If not, to lock again takes seconds. */
function isReleased(trials: readonly TrialReport[]): boolean {
  return trials.every(({ acquiredAfterRelease }) => acquiredAfterRelease);
}

function releasesAll({ views }: LockerReport): boolean {
  return views.every(({ trials }) => isReleased(trials));
}

function contestFile(locker: LockerName): string {
  return `${locker}.contest`;
}

function toPathReport({ name, facts }: View): PathReport {
  const { type, ...report } = facts;
  return { path: name, ...report, type: type === "file" ? type : "directory" };
}

/** @throws {LockException} If the path cannot be tested. */
async function examine(probe: Probe, name: string): Promise<PathFacts> {
  // A probe has the same current directory.
  const facts = await explained(name, probe.call("facts", absolute(name)));
  if (facts.type === "other") {
    throw cannotTest(name, "EINVAL", "it is neither a directory nor a file");
  }
  if (
    facts.type === "file" && facts.fileSystem?.mountPoint === facts.realPath
  ) {
    throw cannotTest(
      name,
      "EBUSY",
      `it is mounted by itself, so no other file can be created on its file ` +
        `system (${formatName(facts.fileSystem.type)} from ` +
        `${formatName(facts.fileSystem.source)}); pass the directory that it ` +
        "comes from, or mount that directory instead of the file",
    );
  }
  return facts;
}

function create(
  probe: Probe,
  name: string,
  { directory }: PathFacts,
): Promise<string> {
  return explained(name, probe.call("prepare", directory), directory);
}

/** What to do about an error, by its code. */
const ADVICE: Record<string, string> = {
  ENOENT: "it does not exist; create it, or pass a path that exists",
  ENOTDIR: "a part of the path is not a directory; correct the path",
  ELOOP: "its symbolic links are a circle; correct them",
  ENAMETOOLONG: "the path is too long; pass a shorter one",
  EROFS:
    "the file system is mounted read-only; mount it for writing, or pass " +
    "a directory that can be written",
  ETIMEDOUT:
    "the file system did not answer for 10 seconds; check its server, " +
    "or unmount it",
  ENOSPC: "the file system is full; remove some files",
  EDQUOT: "the quota of this user is used up; remove some files",
};

/** Converts the error of a probe into one that says what to do. */
async function explained<T>(
  name: string,
  result: Promise<T>,
  directory?: string,
): Promise<T> {
  try {
    return await result;
  } catch (error) {
    if (!(error instanceof ProbeError)) throw error;
    const { code, message } = error.report;
    const advice = ADVICE[code ?? ""];
    if (advice !== undefined) throw cannotTest(name, code, advice, error);
    if (code === "EACCES" || code === "EPERM") {
      const reason = directory === undefined
        ? "this user may not search its directory; change the permissions, or " +
          "run as another user"
        : `this user may not create files in ${formatName(directory)}; pass ` +
          "a directory that this user may write to, or run as another user";
      throw cannotTest(name, code, reason, error);
    }
    throw cannotTest(name, code, message, error);
  }
}

function cannotTest(
  name: string,
  code: string | null,
  reason: string,
  cause?: unknown,
): LockException {
  const suffix = code === null ? "" : ` (${code})`;
  return new LockException(
    `Cannot test ${formatName(name)}: ${reason}${suffix}`,
    {
      path: name,
      code: code ?? undefined,
      ...cause === undefined ? {} : { cause },
    },
  );
}

/** Finds the directory of the tests by another path. */
async function findAgain(
  probe: Probe,
  directory: string,
  name: string,
  otherName: string,
): Promise<void> {
  for (const end = performance.now() + VISIBLE_MS;;) {
    if (await probe.call("adopt", directory)) return;
    if (performance.now() >= end) break;
    await delay(VISIBLE_POLL_MS);
  }
  throw cannotTest(
    otherName,
    "EINVAL",
    `it is not the same directory as ${formatName(name)}: ` +
      `${formatName(basename(directory))} was created there and does not ` +
      "appear here; pass two paths of one directory",
  );
}
