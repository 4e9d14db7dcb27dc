/** A diagnosis in plain words. */

import { formatName } from "../../options/validate.ts";
import { formatTime } from "./judge.ts";
import type {
  ContestReport,
  Diagnosis,
  LockerReport,
  PathReport,
  RuntimeReport,
  ViewReport,
  WaitReport,
  WriteReport,
} from "./types.ts";

const HEADLINES: Record<Diagnosis["verdict"], string> = {
  works: "locks work",
  limited: "locks work, with limits",
  broken: "locks DO NOT work",
};

/** How a line of a list begins. */
const ITEM = "- ";

/** The widest line. */
const WIDTH = 80;

/**
 * Formats a diagnosis for people, in lines of 80 columns.
 *
 * @param diagnosis What {@linkcode diagnose} returned.
 * @returns The text. It ends with a line break.
 */
export function formatDiagnosis(diagnosis: Diagnosis): string {
  const { paths, verdict, runtime, lockers, writes } = diagnosis;
  const names = paths.map(({ path }) => formatName(path)).join(" and ");
  const lines = [
    ...wrap(`${names}: ${HEADLINES[verdict]}.`, ""),
    ...list("Problems", diagnosis.problems),
    ...list("Notes", diagnosis.notes),
    ...paths.flatMap((path) =>
      block(formatName(path.path), describePath(path))
    ),
    ...lockers.flatMap((report) =>
      block(`${report.call}, locker "${report.locker}"`, locks(report))
    ),
    ...block("writeAtomic, updateFile", describeWrites(writes)),
    ...block("Runtime", describeRuntime(runtime, diagnosis.inotify)),
  ];
  return lines.join("\n") + "\n";
}

function list(title: string, items: readonly string[]): string[] {
  if (items.length === 0) return [];
  return ["", title, ...items.flatMap((item) => wrap(item, `  ${ITEM}`))];
}

function block(title: string, facts: readonly string[]): string[] {
  const lines = facts.flatMap((fact) =>
    fact.startsWith(ITEM)
      ? wrap(fact.slice(ITEM.length), `  ${ITEM}`)
      : wrap(fact, "  ")
  );
  return ["", title, ...lines];
}

/**
 * Breaks a text into lines. The first one begins with the indent, and the
 * others with as many spaces. A word is never broken.
 */
function wrap(text: string, indent: string): string[] {
  const [first = "", ...words] = text.split(" ");
  const lines: string[] = [];
  let line = indent + first;
  for (const word of words) {
    if (line.length + 1 + word.length <= WIDTH) line += ` ${word}`;
    else {
      lines.push(line);
      line = " ".repeat(indent.length) + word;
    }
  }
  return [...lines, line];
}

function describePath(path: PathReport): string[] {
  const { realPath, fileSystem, local, mode, owner, user, file } = path;
  const facts: string[] = [];
  if (realPath !== path.path) facts.push(`is ${formatName(realPath)}`);
  if (fileSystem === null) facts.push("on a file system of unknown type");
  else {
    const { type, source, mountPoint, options } = fileSystem;
    facts.push(
      `on ${type}${local ? ", a file system of this machine" : ""}: ` +
        `${formatName(source)}, mounted at ${formatName(mountPoint)}`,
      `mounted with ${options.join(", ")}`,
    );
  }
  facts.push(
    `permissions ${mode}` + (owner === null ? "" : `, owner ${owner}`) +
      (user === null ? "" : `; this process runs as user ${user}`),
  );
  if (file !== null) {
    facts.push(
      file.updates === "replace"
        ? "updateFile can replace it"
        : file.updates === "in place"
        ? "updateFile can only overwrite it in place"
        : "updateFile can neither replace nor overwrite it",
    );
  }
  return facts;
}

const STATES: Record<LockerReport["state"], string> = {
  works: "works",
  strict: "works, but excludes more than it should",
  local: "excludes only processes of this machine",
  broken: "BROKEN",
  refused: "REFUSED",
  unavailable: "not available",
};

function locks({ state, error, views, contest }: LockerReport): string[] {
  if (error !== null) return [`${STATES[state]}: ${error.message}`];
  return [
    STATES[state],
    ...views.flatMap((view) => describeView(view, views.length > 1)),
    ...contest === null ? [] : [describeContest(contest)],
  ];
}

function describeView(
  { holder, contender, killed, waiting, trials, readsBack }: ViewReport,
  hasOthers: boolean,
): string[] {
  const right = trials.filter(({ expected, acquired }) =>
    expected === acquired
  );
  const facts = [
    `two processes that tried to overlap: ${right.length} of ` +
    `${trials.length} attempts ended as they should`,
  ];
  if (killed !== null) {
    facts.push(
      killed.freedAfter === null
        ? "a killed holder: its lock was not handed over"
        : `a killed holder: free ${formatTime(killed.freedAfter)} later`,
    );
  }
  if (waiting !== null) facts.push(describeWait(waiting));
  if (readsBack === false) facts.push("the next holder reads old content");
  if (!hasOthers) return facts;
  const pair = holder === contender
    ? `both through ${formatName(holder)}`
    : `held through ${formatName(holder)}, requested through ` +
      formatName(contender);
  return [`${pair}:`, ...facts.map((fact) => ITEM + fact)];
}

function describeWait(
  { woken, handOver, longest, clockError }: WaitReport,
): string {
  if (handOver === null || longest === null) {
    return "a waiter: the lock was not handed over";
  }
  return `a waiter ${woken ? "is woken" : "polls"}: it has the lock ` +
    `${formatTime(handOver)} after the release (at most ` +
    `${formatTime(longest)}; clocks differ by up to ${formatTime(clockError)})`;
}

function describeContest(
  {
    processes,
    duration,
    acquired,
    waited,
    compared,
    overlaps,
    longestOverlap,
  }: ContestReport,
): string {
  const found = overlaps === 0
    ? "no forbidden overlap"
    : `${overlaps} forbidden overlaps, for up to ${formatTime(longestOverlap)}`;
  return `${processes} processes that contended for ${formatTime(duration)}: ` +
    `they entered ${acquired} times, ${waited} times after a wait; ${found}` +
    (compared < acquired ? ` among the ${compared} times compared` : "");
}

function describeWrites(
  { replaces, hardLinks, permissions, syncsDirectory, inPlace, ...others }:
    WriteReport,
): string[] {
  const { updates, error } = others;
  const abilities: [works: boolean, what: string][] = [
    [replaces, "replace a file in one step (rename)"],
    [hardLinks, "create a file only if it does not exist (hard links)"],
    [inPlace, "overwrite a file in place"],
    [syncsDirectory, "sync a directory"],
    [permissions, "keep permission bits"],
  ];
  const which = (works: boolean) =>
    abilities.filter(([each]) => each === works).map(([, what]) => what)
      .join("; ");
  const facts = [true, false].map((works) =>
    which(works) && `${works ? "can" : "CANNOT"}: ${which(works)}`
  ).filter((fact) => fact !== "");
  if (updates === null) {
    return [...facts, `updateFile fails: ${error?.message ?? "not tried"}`];
  }
  const { processes, made, lost } = updates;
  return [
    ...facts,
    `${processes} processes that updated one file ${made} times: ` +
    (lost === 0 ? "no update was lost" : `${lost} updates were LOST`),
  ];
}

function describeRuntime(
  { name, system, calls }: RuntimeReport,
  inotify: Diagnosis["inotify"],
): string[] {
  return [
    `${name} on ${system}, calls the system through ${calls}`,
    ...inotify === null ? [] : [
      `inotify(7): ${inotify.maxInstances} instances and ` +
      `${inotify.maxWatches} watches for each user`,
    ],
  ];
}
