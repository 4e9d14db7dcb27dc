import assert from "node:assert/strict";
import { test } from "node:test";
import { checkText, parseRules } from "../../scripts/prose/check.ts";

const RULES = parseRules("# a comment\n\nbanned (phrase|words) -> better\n");

/** Returns the lines with a banned phrase. */
function linesOf(path: string, text: string): number[] {
  return checkText(path, text, RULES).map(({ line }) => line);
}

test("a banned phrase is found in comments and messages of TypeScript", () => {
  assert.deepEqual(
    linesOf(
      "a.ts",
      [
        "// a Banned phrase",
        "/** A banned",
        " * phrase across lines. */",
        'const banned = "no banned words";',
        "const text = `${'banned'} phrase, ${f(`banned phrase`)}`;",
        'const joined = "a banned " +',
        '  "phrase";',
        "const pattern = /'/; // banned phrase",
      ].join("\n"),
    ),
    [1, 2, 4, 5, 6, 8],
  );
});

test("code is not prose", () => {
  assert.deepEqual(
    linesOf(
      "a.ts",
      [
        "const banned = phrase;",
        "// the code `banned phrase`",
        "// a banned",
        "f();",
        "// phrase",
        'import "./banned/phrase.ts";',
        "const pattern = /banned phrase/;",
      ].join("\n"),
    ),
    [],
  );
});

test("a banned phrase is found in Markdown, and in comments of its code", () => {
  assert.deepEqual(
    linesOf(
      "a.md",
      [
        "A banned",
        "phrase.",
        "",
        "`banned phrase`, [text](https://banned.example/phrase)",
        "```ts",
        "banned(phrase); // banned phrase",
        "```",
        "| a | **banned** words |",
      ].join("\n"),
    ),
    [1, 6, 8],
  );
});

test("a banned phrase is found in Python, C, shell and YAML", () => {
  assert.deepEqual(linesOf("a.py", '"""banned phrase"""\n# banned words'), [
    1,
    2,
  ]);
  assert.deepEqual(linesOf("a.c", "int banned; /* banned phrase */"), [1]);
  assert.deepEqual(linesOf("a.sh", "banned=$#\n# banned phrase"), [2]);
  assert.deepEqual(linesOf("run", "#!/bin/bash\n# banned phrase"), [2]);
  assert.deepEqual(linesOf("a.yml", "# banned phrase\nname: banned words"), [
    1,
    2,
  ]);
  assert.deepEqual(linesOf("a.txt", "banned phrase"), []);
});

test("a rule with a capital letter depends on the case", () => {
  const rules = parseRules("Should it -> if it");
  const found = (text: string) => checkText("a.md", text, rules).length;
  assert.equal(found("Should it end, call it."), 1);
  assert.equal(found("Why should it end?"), 0);
});

test("a line that is not a rule is an error", () => {
  assert.throws(() => parseRules("a phrase"), SyntaxError);
});
