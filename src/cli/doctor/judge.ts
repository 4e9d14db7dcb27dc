/** What the measurements mean, in words. */

import process from "node:process";
import { formatName } from "../../options/validate.ts";
import { localLocks } from "./file_system.ts";
import type {
  Diagnosis,
  LockerName,
  LockerReport,
  PathReport,
  TrialReport,
  ViewReport,
} from "./types.ts";

/** What was measured. The states of the lockers are not known yet. */
export type Measured = Omit<
  Diagnosis,
  "verdict" | "locker" | "problems" | "notes" | "duration"
>;

/** What follows from the measurements. */
export type Judgment = Pick<
  Diagnosis,
  "verdict" | "problems" | "notes" | "lockers"
>;

/** Judges what was measured. `locker` is the kind of lock that decides. */
export function judge(measured: Measured, locker: LockerName): Judgment {
  const lockers = measured.lockers.map((report) => ({
    ...report,
    state: stateOf(report, measured.paths),
  }));
  const judged = { ...measured, lockers };
  const decisive = lockers.find((report) => report.locker === locker);
  const problems = [
    ...decisive?.state === "unavailable" && decisive.error
      ? [decisive.error.message]
      : [],
    ...lockers.flatMap((report) => lockerProblems(report, lockers)),
    ...writeProblems(judged),
    ...judged.paths.flatMap(mountProblems),
  ];
  const usable = decisive?.state === "works" || decisive?.state === "strict";
  return {
    verdict: !usable ? "broken" : problems.length > 0 ? "limited" : "works",
    problems,
    notes: notesOf(judged),
    lockers,
  };
}

/** The states of locks that exclude other processes of this machine. */
const WORKING: readonly LockerReport["state"][] = ["works", "strict", "local"];

/** The code of an error that says that the runtime does not have such locks. */
export const UNAVAILABLE = "ERR_LOCK_UNSUPPORTED";

function stateOf(
  { locker, error, views, contest }: LockerReport,
  paths: readonly PathReport[],
): LockerReport["state"] {
  if (error !== null) {
    return error.code === UNAVAILABLE ? "unavailable" : "refused";
  }
  const trials = views.flatMap((view) => view.trials);
  if (
    trials.some(isOverlap) || trials.some(isStuck) || views.some(isWrong) ||
    contest !== null && contest.overlaps + contest.gaveUp > 0
  ) {
    return "broken";
  }
  const isLocal = paths.some(({ fileSystem }) =>
    fileSystem !== null && localLocks(fileSystem)?.lockers.includes(locker)
  );
  if (isLocal) return "local";
  return trials.some(isTooStrict) ? "strict" : "works";
}

const isOverlap = ({ expected, acquired }: TrialReport) =>
  acquired && !expected;
const isStuck = ({ acquiredAfterRelease }: TrialReport) =>
  !acquiredAfterRelease;
const isTooStrict = ({ expected, acquired }: TrialReport) =>
  expected && !acquired;
const isWrong = ({ killed, waiting }: ViewReport) =>
  killed?.freedAfter === null || waiting?.handOver === null;
const isAcross = ({ holder, contender }: ViewReport) => holder !== contender;

/** Formats a number of milliseconds. */
export function formatTime(milliseconds: number): string {
  const digits = milliseconds < 1 ? 2 : milliseconds < 100 ? 1 : 0;
  return `${milliseconds.toFixed(digits)} ms`;
}

function lockerProblems(
  report: LockerReport,
  all: readonly LockerReport[],
): string[] {
  const { call, state, error } = report;
  switch (state) {
    case "works":
    case "local":
      return staleContent(report);
    case "unavailable":
      return [];
    case "strict":
      return [...strictProblems(report), ...staleContent(report)];
    case "refused":
      return [
        `${call} fails: ${error?.message}; ${refusedAdvice(report, all)}`,
      ];
    case "broken":
      return [
        ...brokenProblems(report).map((problem) =>
          `${problem}; ${advice(report, all)}`
        ),
      ];
  }
}

/** The content of a file may be cached where its locks are not. */
function staleContent({ call, contest, views }: LockerReport): string[] {
  const stale = contest?.staleReads ?? 0;
  const view = views.find(({ readsBack }) => readsBack === false);
  if (stale === 0 && view === undefined) return [];
  const where = view === undefined
    ? `, ${stale} times of ${contest?.acquired}`
    : isAcross(view)
    ? ` through ${formatName(view.holder)}`
    : "";
  return [
    `a process that held a lock of ${call} did not see what another process ` +
    `had written under it before${where}: do not keep data here that several ` +
    "processes change",
  ];
}

function strictProblems({ call, views }: LockerReport): string[] {
  const trial = views.flatMap((view) => view.trials).find(isTooStrict)!;
  return [
    `${call} excludes more than it should, which is safe but slower: the lock ` +
    `"${trial.requested}" was refused while another process held ` +
    `"${trial.held}"`,
  ];
}

/** Returns what is wrong, without repeating what follows from it. */
function brokenProblems({ call, views, contest }: LockerReport): string[] {
  const lying = views.filter(({ trials }) => trials.some(isOverlap));
  const alone = lying.filter((view) => !isAcross(view));
  if (alone.length > 0) return alone.map((view) => lie(call, view));
  if (lying.length > 0) return [lieAcross(call, lying)];
  for (const view of views) {
    const { killed, trials, waiting } = view;
    if (trials.some(isStuck)) {
      return [
        `${call} does not release${at(view)}: a lock was still refused ` +
        "after its holder had released it",
      ];
    }
    if (killed?.acquired === "early" || waiting?.acquired === "early") {
      return [
        `${call} does not exclude reliably${at(view)}: a waiter acquired ` +
        "a lock that another process still held",
      ];
    }
    if (killed?.acquired === "never") {
      return [
        `${call} outlives its process${at(view)}: the lock of a killed ` +
        "process was still held seconds later",
      ];
    }
    if (waiting?.acquired === "never") {
      return [
        `${call} does not release${at(view)}: a waiter did not acquire ` +
        "a free lock",
      ];
    }
  }
  if (contest?.overlaps === 0) {
    return [
      `${call} does not release reliably: ${contest.gaveUp} of ` +
      `${contest.processes} processes that contended did not acquire the lock ` +
      "within seconds",
    ];
  }
  return [
    `${call} does not exclude reliably: of ${contest?.acquired} acquisitions, ` +
    `${contest?.overlaps} overlapped with one of another process, for up to ` +
    formatTime(contest?.longestOverlap ?? 0),
  ];
}

function lie(call: string, view: ViewReport): string {
  const { held, requested, overlap } = view.trials.find(isOverlap)!;
  return `${call} does not exclude${at(view)}: it succeeded for a process ` +
    `("${requested}") while another one held the lock ("${held}"), and both ` +
    `held it for ${formatTime(overlap)}`;
}

function lieAcross(call: string, views: readonly ViewReport[]): string {
  const { holder, contender, trials } = views[0]!;
  const { overlap } = trials.find(isOverlap)!;
  return `${call} does not exclude across the two paths: a process held a ` +
    `lock through ${formatName(holder)}, another one acquired it through ` +
    `${formatName(contender)}, and both held it for ${formatTime(overlap)}`;
}

function at({ holder, contender }: ViewReport): string {
  return holder === contender
    ? ` on ${formatName(holder)}`
    : ` between ${formatName(holder)} and ${formatName(contender)}`;
}

function advice(
  { locker, views }: LockerReport,
  all: readonly LockerReport[],
): string {
  const other = all.find((each) =>
    each.state === "works" && each.locker !== locker
  );
  if (other !== undefined) {
    return `use the option locker: "${other.locker}" here, which works`;
  }
  const inside = views.filter((view) => !isAcross(view));
  const isOnlyAcross = !inside.some(({ trials }) => trials.some(isOverlap));
  return isOnlyAcross && views.some(isAcross)
    ? "let all processes use the same path, or use RedisLock"
    : "keep lock files on another file system, or use RedisLock";
}

function refusedAdvice(
  report: LockerReport,
  all: readonly LockerReport[],
): string {
  return report.error?.code === "ENOLCK"
    ? `on NFS, check that the lock services of client and server run, or ` +
      `mount it as NFS 4; otherwise, ${advice(report, all)}`
    : advice(report, all);
}

function writeProblems({ writes, lockers }: Measured): string[] {
  const problems: string[] = [];
  const { error, replaces, updates } = writes;
  const flock = lockers.find(({ locker }) => locker === "flock")?.state;
  const locks = flock !== undefined && WORKING.includes(flock);
  if (!replaces) {
    problems.push(
      `writeAtomic cannot replace a file here` +
        (error === null ? "" : `: ${error.message}`),
    );
  } else if (updates === null && locks) {
    problems.push(`updateFile fails here: ${error?.message}`);
  }
  if (updates !== null && updates.lost > 0) {
    problems.push(
      `updateFile lost ${updates.lost} of ${updates.made} updates, because ` +
        (locks
          ? "a process did not see what another had written"
          : "the lock does not exclude"),
    );
  }
  return problems;
}

function mountProblems({ path, fileSystem }: PathReport): string[] {
  const found = fileSystem && localLocks(fileSystem);
  if (!found) return [];
  return [
    `other machines do not see the locks of ${found.lockers.join(", ")} on ` +
    `${formatName(path)}, because it is mounted with the option ` +
    `${found.option}: see ${found.manual}; mount it without that option`,
  ];
}

function notesOf(measured: Measured): string[] {
  const { paths, lockers, kindsConflict, writes } = measured;
  const notes: string[] = [];
  const unavailable = lockers.filter(({ state }) => state === "unavailable");
  for (const { error } of unavailable) {
    notes.push(`not available: ${error?.message}`);
  }
  if (kindsConflict) {
    notes.push(
      "flock(2) and record locks conflict with each other here, as on NFS: a " +
        "program must not use both on one file",
    );
  }
  const [first, second] = paths;
  if (first && second && isSameMount(first, second)) {
    notes.push(
      "both paths are on the same mount, so the test across them shows no " +
        "more than a test of one path",
    );
  }
  for (const path of paths) {
    notes.push(...pathNotes(path, second !== undefined));
  }
  notes.push(...waitNotes(measured), ...lockers.flatMap(clockNotes));
  if (writes.replaces && !writes.hardLinks) {
    notes.push(
      "there are no hard links, so writeAtomic without replace: true first " +
        "checks that the file does not exist; a process that creates it at " +
        "that moment could be overwritten",
    );
  }
  if (writes.replaces && !writes.syncsDirectory) {
    notes.push(
      "directories cannot be synced: after a power failure, a file may have " +
        "its old name or content",
    );
  }
  if (!writes.permissions && process.platform !== "win32") {
    notes.push("files do not keep permission bits here");
  }
  return notes;
}

function isSameMount(one: PathReport, other: PathReport): boolean {
  const point = one.fileSystem?.mountPoint;
  return point !== undefined && point === other.fileSystem?.mountPoint;
}

function pathNotes(
  { path, local, fileSystem, file }: PathReport,
  hasOther: boolean,
): string[] {
  const name = formatName(path);
  const notes: string[] = [];
  if (!local && fileSystem !== null && !hasOther) {
    notes.push(
      `${name} is on a network or FUSE file system (${fileSystem.type}): ` +
        "run portalock doctor PATH PATH2 with a second mount of it to test " +
        "whether that sees these locks",
    );
  }
  if (file === null) return notes;
  const { length } = file.holders;
  if (length > 0) {
    notes.push(`${name} is locked now, by process ${file.holders.join(", ")}`);
  }
  if (file.updates === "in place") {
    notes.push(
      `${name} cannot be replaced, because its directory does not permit it: ` +
        "updateFile needs inPlace: true",
    );
  }
  if (file.updates === null) {
    notes.push(`${name} can be neither replaced nor written by this user`);
  }
  return notes;
}

function waitNotes({ lockers, inotify, paths }: Measured): string[] {
  const waits = lockers.flatMap(({ views }) => views)
    .flatMap(({ waiting }) => waiting ?? []);
  if (waits.length === 0 || waits.every(({ woken }) => woken)) return [];
  const reason = inotify === null
    ? "this runtime or this system does not report releases"
    : paths.every(({ local }) => local)
    ? `no inotify(7) instance was free (${inotify.maxInstances} for each ` +
      `user), or no watch (${inotify.maxWatches}); end processes that ` +
      "wait, or raise fs.inotify.max_user_instances and max_user_watches"
    : "a release through another path or machine is not reported here";
  return [
    `waiters are not woken but try again, at least every checkInterval ` +
    `(250 ms): ${reason}`,
  ];
}

/** An overlap that is shorter than the clocks differ is not found. */
function clockNotes({ call, contest }: LockerReport): string[] {
  if (contest === null || contest.compared * 2 >= contest.acquired) return [];
  const { clockError, compared, acquired } = contest;
  return [
    `the clocks of the processes differ by up to ${
      formatTime(clockError)
    }, so ` +
    `only ${compared} of the ${acquired} times that one had the lock of ` +
    `${call} could be compared; run the test again when the machine is idle`,
  ];
}
