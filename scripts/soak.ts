/**
 * `npm run soak`: eight processes on every runtime and in Python take a
 * temporary lock and a PID lock for some seconds, while others like them are
 * killed. Fails if two are ever inside at a time, if anybody gets nothing, or
 * if a file is left. `--seconds N`, 30 unless given, 0 for none of it. Then
 * likewise in Redis: `--redis-seconds N` for each of `--redis-parts alone,...`,
 * or until `--redis-sections N`.
 */

import { spawn } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { installDebianPackages, newerPortalocker, python } from "./debian.mjs";
import { tellProblems } from "./junit.mjs";
import { redisSoak } from "./redis_soak.mjs";
import { compileTests, root, runtimes, setUp } from "./setup.mjs";

const PROCESSES = 8;

/** Milliseconds from one kill to the next. */
const PAUSE = 300;

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "30" },
    "redis-seconds": { type: "string", default: "12" },
    "redis-sections": { type: "string", default: "0" },
    "redis-parts": { type: "string", default: "alone,python,chaos" },
  },
});
const seconds = number("seconds");

setUp();
compileTests();
installDebianPackages();
const kinds = [...runtimes().map(javaScript), ...inPython()];
const folder = mkdtempSync(join(tmpdir(), "portalock soak-"));
mkdirSync(join(folder, "doomed"));
const problems = [];
let skipped = inPython().length === 0 ? 1 : 0;
let passed = 0;
if (seconds > 0) await files();
rmSync(folder, { recursive: true });
await inRedis();
tellProblems(problems);
console.log(
  `\n${passed} passed, ${problems.length} failed, ${skipped} skipped`,
);
process.exitCode = problems.length > 0 ? 1 : 0;

function number(name) {
  const value = Number(values[name]);
  if (value >= 0) return value;
  throw new RangeError(`--${name} must be a number, 0 or more`);
}

async function files() {
  const results = await soak();
  await lastSection();
  // A Python that is killed while it writes its PID leaves what it wrote to.
  const ofPython = /^a\.pid\.\d+\.tmp$/;
  const left = readdirSync(folder).filter((name) =>
    name !== "doomed" && !ofPython.test(name)
  );
  if (left.length > 0) problems.push(`left behind: ${left.join(", ")}`);
  for (const { name, temporary, pid } of results) {
    console.log(`${name.padEnd(14)}${temporary} + ${pid} sections`);
    if (!temporary || !pid) problems.push(`${name} got nothing`);
  }
  if (problems.length === 0) passed++;
}

async function inRedis() {
  const parts = values["redis-parts"].split(",").filter(Boolean);
  for (const part of parts) {
    const told = await redisSoak(part, {
      seconds: number("redis-seconds"),
      sections: number("redis-sections"),
    });
    if (told.skipped) console.log(`SKIPPED Redis ${part}: ${told.skipped}`);
    problems.push(...told.problems.map((text) => `Redis ${part}: ${text}`));
    if (told.skipped) skipped++;
    else if (told.problems.length === 0) passed++;
  }
}

function javaScript({ name, command, directory, extension }) {
  const script = join(directory, "tests", "fixtures", "soaking") + extension;
  return { name, command: [...command, script], env: process.env };
}

/** Python's own classes are safe against each other from version 4 on. */
function inPython() {
  const program = python();
  const library = newerPortalocker(join(root, "build", "python"));
  if (!program || !library) {
    console.log("SKIPPED Python: needs portalocker 4");
    return [];
  }
  const script = join(root, "tests", "interop", "soaking.py");
  const env = { ...process.env, PYTHONPATH: library };
  return [{ name: "python", command: [program, script], env }];
}

/** Starts the survivors, and kills others as long as they run. */
async function soak() {
  const survivors = Array.from(
    { length: PROCESSES },
    (_, i) => start(kinds[i % kinds.length], seconds),
  );
  let done = false;
  const finished = Promise.all(survivors.map(({ result }) => result()))
    .finally(() => done = true);
  const killing = (async () => {
    for (let i = 0; !done; i++) await kill(kinds[i % kinds.length]);
  })();
  const told = await finished;
  await killing;
  return told.filter((one) => one !== null);
}

async function kill(kind) {
  const victim = start(kind, seconds * 10);
  await Promise.race([victim.ready, victim.ended]);
  await sleep(Math.random() * PAUSE);
  // Whoever finds what it leaves has to know first.
  writeFileSync(join(folder, "doomed", String(victim.child.pid)), "");
  victim.child.kill("SIGKILL");
  const { signal, output } = await victim.ended;
  if (signal !== "SIGKILL") problems.push(`a ${kind.name} failed: ${output}`);
}

/** What the last one who was killed has left, the next one takes over. */
async function lastSection() {
  for (const kind of kinds) await start(kind, 0.3).result();
}

function start({ name, command: [program, ...args], env }, howLong) {
  const child = spawn(program, [...args, folder, String(howLong)], { env });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data) => output += data);
  }
  const ready = new Promise((resolve) => child.stdout.once("data", resolve));
  const ended = new Promise((resolve) =>
    child.on("close", (code, signal) => resolve({ code, signal, output }))
  );
  const result = async () => {
    const { code } = await ended;
    if (code === 0) return { name, ...JSON.parse(output.split("\n")[1]) };
    problems.push(`a ${name} failed: ${output}`);
    return null;
  };
  return { child, ready, ended, result };
}
