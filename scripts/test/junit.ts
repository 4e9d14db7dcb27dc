/** What test runners report, in the way of JUnit, and what is wrong in it. */

import { readFileSync } from "node:fs";

/** What a failed test says is told up to here, in characters. */
const LONGEST_REASON = 1500;

/** The names of the tests by what became of them, and why those failed. */
export function counts(report) {
  const outcome = { passed: [], failed: [], skipped: [], reasons: [] };
  const cases = /<testcase name="([^"]*)"[^>]*?(?:\/>|>(.*?)<\/testcase>)/gs;
  for (const [, name, body = ""] of readReport(report).matchAll(cases)) {
    const failure = /<(?:failure|error)\b[^>]*>(.*)/s.exec(body);
    const kind = failure
      ? "failed"
      : body.includes("<skipped")
      ? "skipped"
      : "passed";
    outcome[kind].push(unescape(name));
    if (failure) outcome.reasons.push(reasonOf(failure[1]));
  }
  return outcome;
}

function reasonOf(text) {
  return unescape(text.replace(/<\/\w+>\s*$/, "").trim())
    .slice(0, LONGEST_REASON);
}

/** What is wrong with a suite's failed tests, each told in several lines. */
export function failures({ name, failed, reasons }) {
  return failed.map((test, i) => `${name}: failed: ${test}\n${reasons[i]}`);
}

/** Tells what is wrong, in lines that can be found again. */
export function tellProblems(problems) {
  for (const line of problems.flatMap((problem) => problem.split("\n"))) {
    console.log(`PROBLEM ${line}`);
  }
}

function readReport(report) {
  try {
    return readFileSync(report, "utf8");
  } catch {
    return "";
  }
}

/** Undoes XML's escaping, which Node 20 does twice. */
function unescape(text) {
  const once = unescapeOnce(text);
  return once === text ? text : unescape(once);
}

function unescapeOnce(text) {
  const entities = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return text.replace(
    /&(?:(\w+)|#(\d+)|#x([0-9a-f]+));/gi,
    (all, name, decimal, hex) =>
      entities[name] ??
        (decimal || hex
          ? String.fromCodePoint(parseInt(decimal ?? hex, decimal ? 10 : 16))
          : all),
  );
}
