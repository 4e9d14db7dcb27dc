/** `npm run soak`: locks under load while processes are killed. */

import { prepareInParallel } from "./setup/prepare.ts";
import { command } from "./shared/command.ts";
import { fileSoak } from "./soak/files.ts";
import * as commandLine from "./soak/options.ts";
import { redisSoak } from "./soak/redis.ts";
import { countsLine, printProblems } from "./test/report.ts";

await command("soak", commandLine, async (options) => {
  await prepareInParallel();
  const problems: string[] = [];
  let passed = 0;
  let skipped = 0;
  if (options.seconds > 0) {
    const files = await fileSoak(options.seconds);
    problems.push(...files.problems);
    if (files.problems.length === 0) passed++;
    if (files.withoutPython) skipped++;
  }
  for (const part of options.redisParts) {
    const result = await redisSoak(part, {
      seconds: options.redisSeconds,
      sections: options.redisSections,
      clients: options.redisClients,
    });
    problems.push(...result.problems.map((text) => `Redis ${part}: ${text}`));
    if (result.skipped !== undefined) {
      console.log(`SKIPPED Redis ${part}: ${result.skipped}`);
      skipped++;
    } else if (result.problems.length === 0) passed++;
  }
  printProblems(problems);
  console.log(`\n${countsLine({ passed, failed: problems.length, skipped })}`);
  return problems.length === 0;
});
