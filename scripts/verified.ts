/**
 * Links each promise of the documentation to the tests that check it.
 * `tests/promises.json` maps document -> promise -> test names, or rows of
 * `npm run consume`, as `docs/tools.md` lists them. The promise is text of the
 * document, word for word. Run without arguments, this program
 * writes `docs/verified.md`. With `--check` it reports what is out of date and
 * exits with status 1.
 */

import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Maps each promise of a document to the tests that check it. */
const PROMISES = "tests/promises.json";

/** The command that runs this program. */
const GENERATOR = "node scripts/verified.mjs";

/** The page that lists the rows, which `npm run consume` compares. */
const ROWS = "docs/tools.md";

/** The page that {@linkcode writeVerified} generates. */
const VERIFIED = "docs/verified.md";

/** Documents without promises; `tests/model/` explores the protocol. */
const WITHOUT_PROMISES = [VERIFIED, "docs/redis-protocol.md"];

/** A sentence of a document, and what checks it. */
interface VerifiedPromise {
  readonly promise: string;
  /** Names of tests. */
  readonly tests?: readonly string[];
  /** Rows of `npm run consume`: the tool, and the setting in quotes. */
  readonly rows?: readonly string[];
}

/** One document, as `tests/promises.json` describes it. */
interface DocumentPromises {
  /** Headings of the sections that promise nothing that a test could check. */
  readonly untested?: readonly string[];
  readonly promises: readonly VerifiedPromise[];
}

/** A second-level section, or the text before the first of them. */
interface Section {
  /** `""` for the text before the first section. */
  readonly heading: string;
  readonly text: string;
}

function readPromises(): Record<string, DocumentPromises> {
  return JSON.parse(readFileSync(join(root, PROMISES), "utf8"));
}

/**
 * Returns every promise of every document, in the order of
 * `tests/promises.json`.
 */
function loadPromises(): (VerifiedPromise & { document: string })[] {
  return Object.entries(readPromises()).flatMap(([document, { promises }]) =>
    promises.map((each) => ({ document, ...each }))
  );
}

/**
 * Returns a problem for each test name in `tests/promises.json` that `names`
 * does not contain. Call it after a whole run of the suite.
 */
export function missingTests(names: Iterable<string>): string[] {
  const existing = new Set(names);
  return loadPromises().flatMap(({ document, promise, tests = [] }) =>
    tests.filter((test) => !existing.has(test)).map((test) =>
      `${document}: no such test: ${test} (promise: ${shorten(promise)})`
    )
  );
}

/**
 * Returns a problem for each promise that its document does not contain, each
 * promise without a test, each section without a promise, and for a
 * `docs/verified.md` that is out of date.
 */
export function staleVerified(): string[] {
  const problems: string[] = [];
  const existingRows = tableRows();
  const all = readPromises();
  for (const name of readdirSync(join(root, "docs"))) {
    const document = `docs/${name}`;
    if (!(document in all) && !WITHOUT_PROMISES.includes(document)) {
      problems.push(`${document}: no promises in ${PROMISES}`);
    }
  }
  for (const [document, described] of Object.entries(all)) {
    const { untested = [], promises } = described;
    const sections = sectionsOf(document);
    for (const { promise, tests = [], rows = [] } of promises) {
      if (tests.length + rows.length === 0) {
        problems.push(`${document}: no test for: ${shorten(promise)}`);
      }
      for (const row of rows.filter((row) => !existingRows.includes(row))) {
        problems.push(`${document}: no such row in ${ROWS}: ${row}`);
      }
      if (!sections.some((section) => contains(section, promise))) {
        problems.push(`${document}: does not say: ${promise}`);
      }
    }
    const headings = sections.map(({ heading }) => heading);
    for (const heading of untested.filter((each) => !headings.includes(each))) {
      problems.push(`${document}: no such section: ${heading}`);
    }
    for (const section of sections) {
      const { heading } = section;
      if (heading === "" || untested.includes(heading)) continue;
      if (!promises.some(({ promise }) => contains(section, promise))) {
        problems.push(`${document}: no promise with a test in: ${heading}`);
      }
    }
  }
  const written = existsSync(join(root, VERIFIED))
    ? readDocument(VERIFIED)
    : null;
  if (problems.length === 0 && written !== renderVerified()) {
    problems.push(
      `${VERIFIED}: out of date (run ${GENERATOR})`,
    );
  }
  return problems;
}

/** Writes `docs/verified.md`. */
export function writeVerified(): void {
  writeFileSync(join(root, VERIFIED), renderVerified());
}

/** Returns the text of `docs/verified.md`. */
function renderVerified(): string {
  const lines = [
    "<!-- deno-fmt-ignore-file -->",
    `<!-- Generated by ${GENERATOR} from ${PROMISES}. -->`,
    "",
    "# Promises and their tests",
    "",
    "Each paragraph is a promise, quoted from the document that the heading",
    "names. The list below it names its tests. `npm test` fails if one of these",
    "tests does not exist, and `npm run consume` runs the rows.",
  ];
  for (const [document, { promises }] of Object.entries(readPromises())) {
    const link = relative(dirname(VERIFIED), document).replaceAll("\\", "/");
    lines.push("", `## [${document}](${link})`);
    for (const section of sectionsOf(document)) {
      const own = promises.filter(({ promise }) => contains(section, promise));
      if (own.length === 0) continue;
      if (section.heading !== "") lines.push("", `### ${section.heading}`);
      for (const { promise, tests = [], rows = [] } of own) {
        lines.push(
          "",
          promise,
          "",
          ...tests.map((test) => `- ${code(test)}`),
          ...rows.map((row) => `- the row ${row}`),
        );
      }
    }
  }
  return lines.join("\n") + "\n";
}

/** Returns the rows that {@linkcode ROWS} lists, such as `Jest, CommonJS`. */
function tableRows(): string[] {
  const lines = readDocument(ROWS).matchAll(/^\| (.*?) *\| (.*?) *\|/gm);
  return [...lines].map(([, tool = "", setting = ""]) =>
    setting === "" ? tool : `${tool}, ${setting}`
  );
}

/**
 * Splits a document at its second-level headings. The text before the first of
 * them has the heading `""`.
 */
function sectionsOf(document: string): Section[] {
  const [intro = "", ...others] = readDocument(document).split(/^## /m);
  return [
    { heading: "", text: flatten(intro) },
    ...others.map((text) => ({
      heading: text.slice(0, text.indexOf("\n")),
      text: flatten(text),
    })),
  ];
}

function contains({ text }: Section, promise: string): boolean {
  return text.includes(flatten(promise));
}

/**
 * Makes text independent of how the formatter wraps lines and aligns tables.
 */
function flatten(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}

function readDocument(document: string): string {
  return readFileSync(join(root, document), "utf8");
}

function code(text: string): string {
  return text.includes("`") ? `\`\` ${text} \`\`` : `\`${text}\``;
}

function shorten(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

if (import.meta.main) {
  if (process.argv.includes("--check")) {
    const problems = staleVerified();
    for (const problem of problems) console.log(problem);
    process.exitCode = problems.length > 0 ? 1 : 0;
  } else {
    writeVerified();
  }
}
