/**
 * `npm run demo`: processes on several runtimes add to one number in one file.
 * Its exit status says whether the sum is exact.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import * as commandLine from "../examples/demo/options.ts";
import type { Options } from "../examples/demo/options.ts";
import { showProgress } from "../examples/demo/progress.ts";
import { table, verdict } from "../examples/demo/result.ts";
import { pythonWorker, scriptWorker, Team } from "../examples/demo/team.ts";
import type { Worker } from "../examples/demo/team.ts";
import { number } from "../examples/demo/terminal.ts";
import { python } from "./setup/debian.ts";
import { runtimes, setUp } from "./setup/mod.ts";
import { command } from "./shared/command.ts";

const CHECK_INTERVAL_MS = 5;

const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

await command("demo", commandLine, async (options) => {
  setUp();
  return await count(options);
});

/** Runs the workers on a new file. Returns whether the sum is exact. */
async function count(
  { locked, increments, workers }: Options,
): Promise<boolean> {
  const { team, counter } = prepare();
  const all = findWorkers().flatMap((worker) =>
    Array<Worker>(workers).fill(worker)
  );
  const expected = all.length * increments;
  console.log(
    `${all.length} processes add 1 to the number in one file, ` +
      `${number(increments)} times each, ` +
      (locked ? "under one lock\n" : "without a lock\n"),
  );
  const task = {
    counter,
    locked,
    increments,
    checkInterval: CHECK_INTERVAL_MS,
  };
  try {
    await team.start(all, task);
    await show(team, increments);
  } finally {
    team.kill();
  }
  const found = Number(readFileSync(counter, "utf8"));
  console.log(`\n${table(team.members, locked)}\n`);
  console.log(verdict(expected, found));
  if (locked) {
    console.log("To see lost increments: npm run demo -- --no-lock");
  }
  return found === expected;
}

/** Makes a team and a counter file, which are removed when this ends. */
function prepare(): { team: Team; counter: string } {
  const team = new Team();
  const folder = mkdtempSync(join(tmpdir(), "portalock-demo-"));
  process.on("exit", () => {
    team.kill();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  for (const [signal, status] of Object.entries(SIGNALS)) {
    process.on(signal, () => process.exit(status));
  }
  // The reader of the output has ended, for example head(1).
  process.stdout.on("error", () => process.exit(1));
  const counter = join(folder, "counter.txt");
  writeFileSync(counter, "0");
  return { team, counter };
}

function findWorkers(): Worker[] {
  const scripts = runtimes();
  const interpreter = python();
  const missing = ["deno", "bun", "node", "node26"].filter((wanted) =>
    !scripts.some(({ name }) => name === wanted)
  );
  if (missing.length > 0) console.log(`Left out: ${missing.join(", ")}`);
  if (interpreter === null) {
    console.log(
      "Left out: Python, because portalocker is not installed (Debian " +
        "package python3-portalocker)",
    );
  }
  return [
    ...scripts.map(scriptWorker),
    ...interpreter === null ? [] : [pythonWorker(interpreter)],
  ];
}

async function show(team: Team, increments: number): Promise<void> {
  const progress = showProgress(team.members, increments);
  const end = () => progress.end();
  process.on("exit", end);
  try {
    await team.run((member) => progress.report(member));
  } finally {
    process.off("exit", end);
    end();
  }
}
