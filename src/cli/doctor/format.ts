/** A diagnosis in plain words. */

import { formatName } from "../../options/validate.ts";
import { formatTime } from "./judge.ts";
import type {
  Diagnosis,
  LockerReport,
  PathReport,
  WaitReport,
  WriteReport,
} from "./types.ts";

const HEADLINES: Record<Diagnosis["verdict"], string> = {
  works: "locks work",
  limited: "locks work, with limits",
  broken: "locks DO NOT work",
};

/** The widest line. */
const WIDTH = 80;

/**
 * Formats a diagnosis for people, in lines of 80 columns.
 *
 * @param diagnosis What {@linkcode diagnose} returned.
 * @returns The text. It ends with a line break.
 */
export function formatDiagnosis(diagnosis: Diagnosis): string {
  const { paths, verdict, runtime, inotify, lockers, writes } = diagnosis;
  const rows: [label: string, text: string][] = [];
  for (const path of paths) rows.push([formatName(path.path), describe(path)]);
  const { name, system, calls } = runtime;
  rows.push(["runtime", `${name} on ${system}, calls through ${calls}`]);
  if (inotify !== null) {
    const { maxInstances, maxWatches } = inotify;
    rows.push([
      "inotify(7)",
      `${maxInstances} instances and ${maxWatches} watches for each user`,
    ]);
  }
  for (const report of lockers) rows.push(...describeLocker(report));
  rows.push(["writeAtomic", describeWrites(writes)]);
  rows.push(["updateFile", describeUpdates(diagnosis)]);
  const names = paths.map(({ path }) => formatName(path)).join(" and ");
  const lines = [
    ...wrap(`${names}: ${HEADLINES[verdict]}.`, ""),
    ...section("Problems", diagnosis.problems),
    ...section("Notes", diagnosis.notes),
    "",
    ...rows.flatMap(([label, text]) => [label, ...wrap(text, "    ")]),
  ];
  return lines.join("\n") + "\n";
}

function section(title: string, items: readonly string[]): string[] {
  if (items.length === 0) return [];
  return ["", `${title}:`, ...items.flatMap((item) => wrap(item, "  - "))];
}

/** Breaks a text into lines. All but the first are indented by spaces. */
function wrap(text: string, indent: string): string[] {
  const lines: string[] = [];
  let line = indent;
  for (const word of text.split(" ")) {
    const isFirst = line.trim() === "" || line === indent;
    const next = isFirst ? line + word : `${line} ${word}`;
    if (next.length > WIDTH && !isFirst) {
      lines.push(line);
      line = " ".repeat(indent.length) + word;
    } else line = next;
  }
  return [...lines, line];
}

function describe(
  { realPath, path, fileSystem, local, mode, owner, user, file, type }:
    PathReport,
): string {
  const where = fileSystem === null
    ? "on a file system of unknown type"
    : `on ${fileSystem.type} (${formatName(fileSystem.source)}), mounted at ` +
      `${formatName(fileSystem.mountPoint)} with ` +
      fileSystem.options.join(",");
  const parts = [
    `${type === "file" ? "file" : "directory"} ${where}` +
    (local ? ", on this machine" : ""),
    ...realPath === path ? [] : [`real path ${formatName(realPath)}`],
    `permissions ${mode}` + (owner === null ? "" : `, owner ${owner}`) +
    (user === null ? "" : `, this process runs as user ${user}`),
  ];
  if (file !== null) {
    parts.push(
      file.updates === "replace"
        ? "updateFile replaces it"
        : file.updates === "in place"
        ? "updateFile can only overwrite it in place"
        : "updateFile can neither replace nor overwrite it",
    );
  }
  return parts.join("; ");
}

const STATES: Record<LockerReport["state"], string> = {
  works: "works",
  strict: "works, but excludes more than it should",
  broken: "BROKEN",
  refused: "REFUSED",
  unavailable: "not available",
};

function describeLocker(
  report: LockerReport,
): [label: string, text: string][] {
  const { locker, call, state, error, views, contest } = report;
  const label = `${call}, locker "${locker}"`;
  if (error !== null) return [[label, `${STATES[state]}: ${error.message}`]];
  const parts = [STATES[state]];
  for (const view of views) {
    const { holder, contender, killed, waiting, trials } = view;
    const passed = trials.filter(({ expected, acquired }) =>
      expected === acquired
    ).length;
    const facts = [
      `${passed} of ${trials.length} attempts ended as they should`,
    ];
    if (killed !== null) {
      facts.push(
        killed.freedAfter === null
          ? "the lock of a killed holder was not handed over"
          : `free ${formatTime(killed.freedAfter)} after its holder was killed`,
      );
    }
    if (waiting !== null) facts.push(describeWait(waiting));
    const across = views.length === 1
      ? ""
      : `held through ${formatName(holder)}, requested through ` +
        `${formatName(contender)}: `;
    parts.push(across + facts.join(", "));
  }
  if (contest !== null) parts.push(describeContest(contest));
  return [[label, parts.join("; ")]];
}

function describeWait(
  { woken, handOver, longest, clockError }: WaitReport,
): string {
  if (handOver === null || longest === null) {
    return "the lock was not handed over to a waiter";
  }
  return `a waiter ${woken ? "is woken" : "polls"} and acquires it ` +
    `${formatTime(handOver)} after a release (at most ` +
    `${formatTime(longest)}, clocks differ by up to ${formatTime(clockError)})`;
}

function describeContest(
  { processes, duration, acquired, waited, overlaps, longestOverlap }:
    NonNullable<LockerReport["contest"]>,
): string {
  const found = overlaps === 0
    ? "no two were inside at a time that must not be"
    : `${overlaps} times, two were inside at the same time, for up to ` +
      formatTime(longestOverlap);
  return `${processes} processes acquired it ${acquired} times in ` +
    `${duration} ms, ${waited} times after a wait: ${found}`;
}

function describeWrites(
  { replaces, hardLinks, permissions, syncsDirectory, inPlace }: WriteReport,
): string {
  const can = (works: boolean, what: string) =>
    `${works ? "" : "CANNOT "}${what}`;
  return [
    can(replaces, "replace a file in one step (rename)"),
    can(hardLinks, "create a file only if none exists (hard links)"),
    can(inPlace, "overwrite in place"),
    can(syncsDirectory, "sync a directory"),
    can(permissions, "keep permission bits"),
  ].join("; ");
}

function describeUpdates({ writes }: Diagnosis): string {
  const { updates, error } = writes;
  if (updates === null) return `fails: ${error?.message ?? "not tested"}`;
  const { processes, made, lost } = updates;
  return `${processes} processes made ${made} updates of one file: ` +
    (lost === 0 ? "none was lost" : `${lost} were LOST`);
}
