// @ts-check
/**
 * `npm run test:node`: runs the test runner of Node 26, which npm installs
 * because an older Node does not run TypeScript. Without a file, it runs all
 * tests.
 */

import process from "node:process";
import { installAll, installedNode } from "./setup/install.mjs";
import { become } from "./setup/start.mjs";

installAll();
const args = process.argv.slice(2);
const isFile = (/** @type {string} */ argument) => argument.endsWith(".ts");
const files = args.filter(isFile);
await become(installedNode(26), [
  "--test",
  "--test-concurrency=1",
  // Node does not take options after files.
  ...args.filter((argument) => !isFile(argument)),
  ...files.length > 0 ? files : ["tests/**/*_test.ts"],
]);
