/** The first example of README.md. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../setup/mod.ts";

/** Returns the first example in README.md, which is also JavaScript. */
export function firstSnippet(): string {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const snippet = /^```ts\n(import [^]*?)^```$/m.exec(readme)?.[1];
  assert.ok(snippet !== undefined, "README.md does not have an example");
  return snippet;
}
