/**
 * `npm run demo`: processes on several runtimes add to one number in one file.
 * Its exit status says whether the sum is exact.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as commandLine from "../examples/demo/options.mjs";
import { progress } from "../examples/demo/progress.mjs";
import { table, verdict } from "../examples/demo/result.mjs";
import { pythonWorker, scriptWorker, Team } from "../examples/demo/team.mjs";
import { number } from "../examples/demo/text.mjs";
import { command } from "./command.mjs";
import { python } from "./debian.mjs";
import { runtimes, setUp } from "./setup.mjs";

/** The longest pause between two attempts to lock, in milliseconds. */
const CHECK_INTERVAL = 5;

const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

await command("demo", commandLine, async (options) => {
  setUp();
  return await count(options);
});

/** Runs the workers on a fresh file. Returns whether the sum is exact. */
async function count({ locked, increments, workers }) {
  const { team, counter } = prepare();
  const crew = findWorkers().flatMap((kind) => Array(workers).fill(kind));
  const expected = crew.length * increments;
  console.log(
    `${crew.length} processes add 1 to the number in one file, ` +
      `${number(increments)} times each, ` +
      (locked ? "under one lock\n" : "without a lock\n"),
  );
  const task = { counter, locked, increments, checkInterval: CHECK_INTERVAL };
  try {
    await team.start(crew, task);
    await show(team, increments);
  } finally {
    team.kill();
  }
  const found = Number(readFileSync(counter, "utf8"));
  console.log(`\n${table(team.members, locked)}\n`);
  console.log(verdict(expected, found));
  if (locked) console.log("See it go wrong: npm run demo -- --no-lock");
  return found === expected;
}

/** A team and a counter file, of which nothing is left when this ends. */
function prepare() {
  const team = new Team();
  const folder = mkdtempSync(join(tmpdir(), "portalock-demo-"));
  process.on("exit", () => {
    team.kill();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  for (const [signal, status] of Object.entries(SIGNALS)) {
    process.on(signal, () => process.exit(status));
  }
  // Whoever read the output has gone: head(1) for one.
  process.stdout.on("error", () => process.exit(1));
  const counter = join(folder, "counter.txt");
  writeFileSync(counter, "0");
  return { team, counter };
}

function findWorkers() {
  const scripts = runtimes();
  const interpreter = python();
  const missing = ["deno", "bun", "node", "node26"].filter((wanted) =>
    !scripts.some(({ name }) => name === wanted)
  );
  if (missing.length > 0) console.log(`Left out: ${missing.join(", ")}`);
  if (interpreter === null) {
    console.log(
      "Left out: Python, where portalocker is missing " +
        "(Debian package python3-portalocker)",
    );
  }
  return [
    ...scripts.map(scriptWorker),
    ...interpreter ? [pythonWorker(interpreter)] : [],
  ];
}

async function show(team, increments) {
  const shown = progress(team.members, increments);
  const end = () => shown.end();
  process.on("exit", end);
  try {
    await team.run((member) => shown.report(member));
  } finally {
    process.off("exit", end);
    end();
  }
}
