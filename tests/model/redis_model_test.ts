import assert from "node:assert/strict";
import process from "node:process";
import { test } from "../support/test.ts";
import { CONFIGURATIONS } from "./redis/configurations.ts";
import { type Exploration, explore, type Violation } from "./redis/explorer.ts";
import { LARGE } from "./redis/large.ts";
import { model } from "./redis/model.ts";
import { MUTATIONS, UNNEEDED } from "./redis/mutations.ts";
import type { Explored } from "./redis/participants.ts";
import type { Configuration, State } from "./redis/state.ts";

/** Nothing that is explored is larger. */
const MOST = 3_000_000;

/** A session that acquires once. */
const once = (kind: "x" | "s" | number) => [[{ kind, waits: true }]];

const run = (config: Configuration) => explore(model(config), MOST);

function told(violation?: Violation<State>): string {
  if (!violation) return "";
  const { problem, trace, last } = violation;
  return [problem, ...trace, JSON.stringify(last)].join("\n  ");
}

/** What is wrong, a witness that was never seen included. */
function wrong({ sees = [] }: Explored, found: Exploration<State>): string {
  const never = sees.filter((name) => !found.seen.has(name));
  return found.violation
    ? told(found.violation)
    : never.map((name) => `never: ${name}`).join(", ");
}

/** "large" for minutes more; any value shows how many states there are. */
const extent = process.env.PORTALOCK_MODEL;
const explored = extent === "large"
  ? { ...CONFIGURATIONS, ...LARGE }
  : CONFIGURATIONS;

for (const [name, config] of Object.entries(explored)) {
  test(`redis model: ${name}`, () => {
    const begun = Date.now();
    const found = run(config);
    const { states, transitions, seen } = found;
    const time = Date.now() - begun;
    if (extent) {
      console.log(`${states} states, ${transitions} steps, ${time} ms`);
    }
    assert.equal(wrong(config, found), "");
    assert.ok(states >= config.atLeast, `${states} states`);
    assert.ok(seen.has("a session holds"));
  });
}

for (const [without, name, problem] of MUTATIONS) {
  test(`redis model: ${without} is found with ${name}`, () => {
    const config = CONFIGURATIONS[name];
    assert.match(wrong(config, run({ ...config, without })), problem);
  });
}

for (const without of UNNEEDED) {
  test(`redis model: ${without} breaks nothing`, () => {
    for (const config of Object.values(CONFIGURATIONS)) {
      if (!config.pythons || config.atLeast > 4000) continue;
      assert.equal(wrong(config, run({ ...config, without })), "");
    }
  });
}

test("redis model: a newcomer of Python's can stand for a session that is slow to answer", () => {
  for (const kind of ["4 reader", "4 writer"] as const) {
    const config: Configuration = {
      sessions: [once("x")],
      pythons: [kind, kind],
    };
    assert.match(told(run(config).violation), /hold at once/);
    assert.equal(told(run({ ...config, answerFirst: true }).violation), "");
  }
});

test("redis model: Python 2 can count before it has subscribed", () => {
  const { violation } = run({
    sessions: [once("x")],
    pythons: ["2 writer"],
    overtaking: true,
  });
  assert.match(told(violation), /hold at once/);
});

test("redis model: three of Python's can hold against each other", () => {
  const system = model({
    sessions: [],
    pythons: ["4 reader", "4 reader", "4 writer"],
  });
  const name = "two of Python's hold against each other";
  const problem = (state: State) =>
    system.witnesses[name](state) ? name : undefined;
  const { violation } = explore({ ...system, problem }, MOST);
  assert.equal(violation?.problem, name);
});

test("redis model: a clock that is set back repeats the token of one who shared", () => {
  for (const sessions of [["x", "s", "s"], [2, 2, 2]] as const) {
    const { violation } = run({
      sessions: sessions.map(once),
      allTokens: true,
    });
    assert.match(told(violation), /token .* is not larger/);
  }
});

test("redis model: what the dead have left stays if nobody comes", () => {
  const { seen } = run({ sessions: [once("x")], crash: true });
  assert.ok(seen.has("entries of the dead are left"));
});
