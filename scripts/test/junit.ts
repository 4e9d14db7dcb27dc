/** Reads the JUnit reports of test runners. */

import { readFileSync } from "node:fs";

/** A longer failure is cut to this length, in characters. */
const MAX_REASON = 1500;

/** A test that ran, or that was skipped. */
export interface TestResult {
  name: string;
  outcome: "passed" | "failed" | "skipped";
  /** How long it took. */
  seconds: number;
  /** Why it failed, or `""`. */
  reason: string;
}

/**
 * Returns the tests in a report. The result is empty if the report does not
 * exist.
 */
export function readReport(path: string): TestResult[] {
  const cases =
    /<testcase((?:\s+[\w-]+="[^"]*")*)\s*(?:\/>|>(.*?)<\/testcase>)/gs;
  return [...contentOf(path).matchAll(cases)].map(
    ([, attributes = "", body = ""]) => {
      const failure = /<(?:failure|error)\b[^>]*>(.*)/s.exec(body);
      return {
        name: unescapeXml(attribute(attributes, "name")),
        outcome: failure
          ? "failed"
          : body.includes("<skipped")
          ? "skipped"
          : "passed",
        seconds: Number(attribute(attributes, "time")) || 0,
        reason: failure ? reasonOf(failure[1] ?? "") : "",
      };
    },
  );
}

function attribute(attributes: string, name: string): string {
  return new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? "";
}

function reasonOf(text: string): string {
  return unescapeXml(text.replace(/<\/\w+>\s*$/, "").trim())
    .slice(0, MAX_REASON);
}

function contentOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** Unescapes repeatedly, because Node 20 escapes twice. */
function unescapeXml(text: string): string {
  const once = unescapeOnce(text);
  return once === text ? text : unescapeXml(once);
}

const ENTITIES: Record<string, string> = {
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
  amp: "&",
};

function unescapeOnce(text: string): string {
  return text.replace(
    /&(?:(\w+)|#(\d+)|#x([0-9a-f]+));/gi,
    (all, name?: string, decimal?: string, hex?: string) => {
      if (name !== undefined) return ENTITIES[name] ?? all;
      const code = decimal ? parseInt(decimal, 10) : parseInt(hex ?? "", 16);
      return String.fromCodePoint(code);
    },
  );
}
