/**
 * Measures what this package adds to the start of a process, beside
 * proper-lockfile, the runtime alone, and another checkout of this package:
 *
 * ```sh
 * node bench/start.ts [--before=CHECKOUT] [--rounds=N]
 * ```
 *
 * In each round, a new process of each runtime and library imports the library,
 * acquires one lock and releases it, one process at a time and in random order.
 * A ratio is the median of the ratios of all rounds. The package is the one that
 * npm gets, built from this checkout; `dist/` of the other checkout must exist.
 * What the file system caches is in its cache, because the first round does not
 * count.
 */

import { existsSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { pathToFileURL } from "node:url";
import {
  must,
  node24,
  root,
  type Runtime,
  runtimes,
  setUp,
  systemNode,
  tarball,
} from "../scripts/setup/mod.ts";
import { command, wholeNumber } from "../scripts/shared/command.ts";
import { installPeers, npmPeer } from "./contenders/peers.ts";
import { short } from "./report/format.ts";
import { table } from "./report/report.ts";
import { run } from "./runner/child_process.ts";
import { quantileOf } from "./runner/histogram.ts";
import { describeMachine, heading } from "./runner/machine.ts";
import { progress, shuffled } from "./runner/rounds.ts";
import { freshPath, workspace } from "./runner/workspace.ts";
import type { Column } from "./types.ts";

const TIMEOUT_MS = 60_000;
const DEFAULT_ROUNDS = "15";

const USAGE = `\
node bench/start.ts [--before=CHECKOUT] [--rounds=N]

Measures what importing this package and the first lock add to the start of a
process. Needs Node 26.

  --before=CHECKOUT  another checkout of this package, with its dist/
  --rounds=N         how many rounds (${DEFAULT_ROUNDS})
  --help
`;

interface StartOptions {
  readonly help: boolean;
  readonly before: string | undefined;
  readonly rounds: number;
}

function parseOptions(args: string[]): StartOptions {
  const { values: { before, rounds, help } } = parseArgs({
    args,
    options: {
      before: { type: "string" },
      rounds: { type: "string", default: DEFAULT_ROUNDS },
      help: { type: "boolean", default: false },
    },
  });
  if (before !== undefined && !existsSync(join(before, "dist", "mod.js"))) {
    throw new Error(
      `Cannot compare with "${before}": it does not contain dist/mod.js; ` +
        'run "npm run build" there',
    );
  }
  return { help, before, rounds: wholeNumber("--rounds", rounds, 1000) };
}

/** What a process loads. */
interface Library {
  readonly label: string;
  /** How `children/start.mjs` calls it. */
  readonly name: "nothing" | "portalock" | "proper-lockfile";
  readonly module: string;
}

/** Milliseconds of one process. */
interface Times {
  /** From before the import until after it. */
  readonly imported: number;
  /** From before the import until the first lock is released. */
  readonly locked: number;
  /** From the start of the process to its end. */
  readonly whole: number;
}

/** A library on a runtime. */
interface Subject {
  readonly runtime: Runtime;
  readonly library: Library;
  readonly times: Times[];
}

/** Whichever Node runs npm. */
const nodeVersion = must(systemNode(), ["-p", "process.versions.node"]);

const LABELS: Readonly<Record<string, string>> = {
  node: `Node ${nodeVersion.split(".")[0]}`,
  node24: "Node 24",
  node26: "Node 26",
  bun: "Bun",
  deno: "Deno",
};
const ORDER = Object.keys(LABELS);

/** Ends the label of the sources, which Deno gets from JSR. */
const JSR = ", JSR";

await command("start", { USAGE, parseOptions }, async (options) => {
  setUp();
  installPeers();
  tarball();
  const folder = workspace();
  console.log(heading(describeMachine([], folder)).join("\n"));
  const subjects = findSubjects(options.before);
  // One more, which does not count.
  for (let round = 0; round <= options.rounds; round++) {
    for (const subject of shuffled(subjects)) {
      progress(`Round ${round} of ${options.rounds}`);
      const times = await measure(subject, folder);
      if (round > 0) subject.times.push(times);
    }
  }
  progress("");
  console.log(
    `\nImport and first lock, ${options.rounds} rounds: medians in ms, and ` +
      "medians of the ratios\n",
  );
  console.log(table(columns(subjects), subjects).join("\n"));
  return true;
});

function findSubjects(before: string | undefined): Subject[] {
  const all = [...runtimes(), ...node24()]
    .sort((a, b) => ORDER.indexOf(a.name) - ORDER.indexOf(b.name));
  return all.flatMap((runtime) =>
    libraries(before, runtime).map((library) => ({
      runtime,
      library,
      times: [],
    }))
  );
}

function libraries(before: string | undefined, { name }: Runtime): Library[] {
  const portalock = (label: string, ...path: string[]): Library => ({
    label,
    name: "portalock",
    module: pathToFileURL(join(...path)).href,
  });
  const from = (label: string, checkout: string) => [
    portalock(label, checkout, "dist", "mod.js"),
    ...name === "deno" ? [portalock(`${label}${JSR}`, checkout, "mod.ts")] : [],
  ];
  const peer = npmPeer("proper-lockfile");
  const peers = join(root, "bench", "node_modules", "proper-lockfile");
  return [
    { label: "the runtime alone", name: "nothing", module: "" },
    ...before === undefined ? [] : from("before", before),
    ...from("this package", root),
    ...peer === undefined ? [] : [{
      label: `proper-lockfile ${peer}`,
      name: "proper-lockfile" as const,
      module: pathToFileURL(join(peers, "index.js")).href,
    }],
  ];
}

async function measure(
  { runtime, library: { name, module } }: Subject,
  folder: string,
): Promise<Times> {
  const script = join(root, "bench", "children", "start.mjs");
  const start = performance.now();
  const times = await run<Omit<Times, "whole">>(
    [...runtime.command, script],
    [name, module, freshPath(folder)],
    TIMEOUT_MS,
  );
  return { ...times, whole: performance.now() - start };
}

function columns(subjects: readonly Subject[]): Column<Subject>[] {
  const figures = ["imported", "locked", "whole"] as const;
  const titles = {
    imported: "import",
    locked: "+ first lock",
    whole: "process",
  };
  const others = [
    { title: "× before", label: "before" },
    { title: "× proper-lockfile", label: "proper-lockfile" },
  ];
  // The sources are compared with the sources.
  const baseline = (one: Subject, label: string) => {
    const all = subjects.filter(({ runtime, library }) =>
      runtime === one.runtime && library.label.startsWith(label)
    );
    const isSource = one.library.label.endsWith(JSR);
    return all.find(({ library }) =>
      library.label.endsWith(JSR) === isSource
    ) ??
      all[0];
  };
  return [
    {
      title: "",
      cell: ({ runtime, library }) =>
        `${LABELS[runtime.name] ?? runtime.name}, ${library.label}`,
    },
    ...figures.flatMap((figure) => [
      {
        title: `${titles[figure]} ms`,
        cell: (one: Subject) => short(median(one.times.map((t) => t[figure]))),
      },
      ...others.filter(({ label }) =>
        subjects.some(({ library }) => library.label.startsWith(label))
      ).map(({ title, label }) => ({
        title,
        cell: (one: Subject) => ratio(one, baseline(one, label), figure),
      })),
    ]),
  ];
}

/** The median of the ratios of each round. */
function ratio(
  one: Subject,
  other: Subject | undefined,
  figure: keyof Times,
): string {
  if (other === undefined || one.library.name === "nothing") return "";
  return short(median(
    one.times.map((times, i) =>
      times[figure] / (other.times[i]?.[figure] ?? NaN)
    ),
  ));
}

function median(values: readonly number[]): number {
  return quantileOf([...values].sort((a, b) => a - b), 0.5);
}
