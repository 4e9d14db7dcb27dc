import assert from "node:assert/strict";
import process from "node:process";
import { test } from "../support/test.ts";
import { CONFIGURATIONS } from "./redis/configurations.ts";
import { type Exploration, explore, type Violation } from "./redis/explorer.ts";
import { LARGE } from "./redis/large.ts";
import { model } from "./redis/model.ts";
import { MUTATIONS, UNNEEDED } from "./redis/mutations.ts";
import type { ExploredConfiguration } from "./redis/participants.ts";
import { quorum, type QuorumConfiguration } from "./redis/quorum.ts";
import { SESSIONS } from "./redis/sessions.ts";
import type { Configuration, State } from "./redis/state.ts";

/** The limit of every exploration. */
const MAX_STATES = 3_000_000;

/** A connection that acquires once. */
const once = (kind: "x" | "s" | number) => [[{ kind, waits: true }]];

const run = (config: Configuration) => explore(model(config), MAX_STATES);

function formatViolation(violation?: Violation<State>): string {
  if (!violation) return "";
  const { problem, trace, last } = violation;
  return [problem, ...trace, JSON.stringify(last)].join("\n  ");
}

/** Describes a violation, or the witnesses that were never seen. */
function findFailure(
  { witnesses = [] }: ExploredConfiguration,
  found: Exploration<State>,
): string {
  const never = witnesses.filter((name) => !found.seen.has(name));
  return found.violation
    ? formatViolation(found.violation)
    : never.map((name) => `never: ${name}`).join(", ");
}

/** "large" adds configurations. Any value prints the numbers of states. */
const extent = process.env.PORTALOCK_MODEL;
const small = { ...CONFIGURATIONS, ...SESSIONS };
const explored = extent === "large" ? { ...small, ...LARGE } : small;

for (const [name, config] of Object.entries(explored)) {
  test(`redis model: ${name}`, () => {
    const begun = Date.now();
    const found = run(config);
    const { states, transitions, seen } = found;
    const time = Date.now() - begun;
    if (extent) {
      console.log(`${states} states, ${transitions} steps, ${time} ms`);
    }
    assert.equal(findFailure(config, found), "");
    assert.ok(states >= config.atLeast, `${states} states`);
    assert.ok(seen.has("a connection holds"));
  });
}

for (const [without, name, problem] of MUTATIONS) {
  test(`redis model: "${without}" is detected with ${name}`, () => {
    const config = small[name] ?? assert.fail(name);
    assert.match(findFailure(config, run({ ...config, without })), problem);
  });
}

for (const without of UNNEEDED) {
  test(`redis model: "${without}" does not violate anything`, () => {
    for (const config of Object.values(small)) {
      if (!config.pythons || config.atLeast > 1300) continue;
      assert.equal(findFailure(config, run({ ...config, without })), "");
    }
  });
}

test("redis model: a new Python client is counted in place of a connection that replies slowly", () => {
  for (const kind of ["4 reader", "4 writer"] as const) {
    const config: Configuration = {
      connections: [once("x")],
      pythons: [kind, kind],
    };
    assert.match(formatViolation(run(config).violation), /hold at once/);
    assert.equal(
      formatViolation(run({ ...config, repliesFirst: true }).violation),
      "",
    );
  }
});

test("redis model: Python 2 that counts before it subscribes holds beside a writer", () => {
  const { violation } = run({
    connections: [once("x")],
    pythons: ["2 writer"],
    overtaking: true,
  });
  assert.match(formatViolation(violation), /hold at once/);
});

test("redis model: three Python clients can hold at once without this package", () => {
  const system = model({
    connections: [],
    pythons: ["4 reader", "4 reader", "4 writer"],
  });
  const name = "two Python clients hold against each other";
  const isReached = system.witnesses[name] ?? assert.fail(name);
  const findProblem = (state: State) => isReached(state) ? name : undefined;
  const { violation } = explore({ ...system, findProblem }, MAX_STATES);
  assert.equal(violation?.problem, name);
});

test("redis model: a replica that lost the last tokens, and whose clock is behind, repeats a token", () => {
  const { violation } = run({
    connections: [once("x"), once("x")],
    clock: "failover without tokens",
    lastIsLate: true,
  });
  assert.match(formatViolation(violation), /token .* is not larger/);
});

test("redis model: a release does not look for dead holders beside it", () => {
  const { violation } = run({
    connections: [once("s"), once("s"), once("x")],
    crash: "holders",
    noLooks: true,
  });
  assert.match(formatViolation(violation), /no final state is reachable/);
});

test("redis model: members of dead connections stay until the next acquisition", () => {
  const { seen } = run({ connections: [once("x")], crash: true });
  assert.ok(seen.has("members of dead connections are left"));
});

const THREE_SERVERS: QuorumConfiguration = {
  clients: 2,
  servers: 3,
  order: "one by one",
  stops: 1,
  ends: 1,
};

function runQuorum(config: Partial<QuorumConfiguration>) {
  const system = quorum({ ...THREE_SERVERS, ...config });
  const { violation, seen } = explore(system, MAX_STATES);
  return { problem: violation?.problem, seen };
}

test("redis quorum model: two of three servers exclude, and one may stop", () => {
  const { problem, seen } = runQuorum({});
  assert.equal(problem, undefined);
  assert.ok(seen.has("a client assumes a lock that it has lost"));
  assert.equal(
    runQuorum({ order: "all at once", stops: 0, ends: 0 }).problem,
    undefined,
  );
});

test("redis quorum model: one of three servers does not exclude", () => {
  assert.match(String(runQuorum({ enough: 1 }).problem), /hold at once/);
});

test("redis quorum model: clients that ask all servers at once can block each other", () => {
  const { problem } = runQuorum({ order: "all at once", ends: 0 });
  assert.match(String(problem), /no final state is reachable/);
});

test("redis quorum model: clients that start over do not block each other forever", () => {
  const order = "all at once, and retry";
  assert.equal(runQuorum({ order, ends: 0 }).problem, undefined);
});
