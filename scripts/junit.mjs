/** What test runners report, in the way of JUnit. */

import { readFileSync } from "node:fs";

/** The names of the tests by what became of them. */
export function counts(report) {
  const outcome = { passed: [], failed: [], skipped: [] };
  const cases = /<testcase name="([^"]*)"[^>]*?(?:\/>|>(.*?)<\/testcase>)/gs;
  for (const [, name, body = ""] of readReport(report).matchAll(cases)) {
    const kind = /<(failure|error)/.test(body)
      ? "failed"
      : body.includes("<skipped")
      ? "skipped"
      : "passed";
    outcome[kind].push(unescape(name));
  }
  return outcome;
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
