/** Servers of Next.js, which copies the files that its tracer finds. */

import { cpSync } from "node:fs";
import { join } from "node:path";
import { tool, toolNode } from "../programs.ts";
import { NODES, type Row } from "../row.ts";
import { playRoles } from "../scenario.ts";

/** Too large for the tools that every run installs. */
const PACKAGES = ["next@16.4.6", "react@19.3.1", "react-dom@19.3.1"] as const;

const ROUTE = `
  import { play } from "../../roles.mjs";
  export const dynamic = "force-dynamic";
  export async function GET() {
    return Response.json(await play("wait", process.env.CONSUME_FOLDER));
  }
`;

const LAYOUT = `
  export default function Layout({ children }) {
    return <html><body>{children}</body></html>;
  }
`;

/** Starts the server, sends one request, and stops the server. */
const REQUEST = `
  import { spawn } from "node:child_process";
  import { once } from "node:events";
  import { createServer } from "node:net";
  import { setTimeout as sleep } from "node:timers/promises";

  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  await once(probe, "close");
  const server = spawn(process.execPath, ["server.js"], {
    env: { ...process.env, PORT: port, HOSTNAME: "127.0.0.1" },
    stdio: ["ignore", "ignore", "inherit"],
  });
  server.on("exit", (code) => process.exit(code ?? 1));
  let response;
  while (!response) {
    response = await fetch(\`http://127.0.0.1:\${port}/lock\`).catch(() => {});
    await sleep(20);
  }
  server.removeAllListeners("exit");
  server.kill();
  await once(server, "exit");
  if (!response.ok) throw new Error(await response.text());
`;

/** A standalone server whose route waits for a lock. */
function standalone(setting: string, config: object, ...args: string[]): Row {
  return {
    tool: "Next.js 16",
    setting,
    runtimes: NODES,
    heavy: true,
    async prepare(workspace) {
      const project = workspace.project({
        "app/layout.jsx": LAYOUT,
        "app/lock/route.js": ROUTE,
        "next.config.mjs": `export default ${
          JSON.stringify({ output: "standalone", ...config })
        };`,
      });
      const options = {
        cwd: project,
        env: { NEXT_TELEMETRY_DISABLED: "1", HOME: workspace.folder },
      };
      const install = ["install", "--no-audit", "--no-fund", ...PACKAGES];
      await workspace.run([...tool("npm-10", "npm"), ...install], options);
      const next = join(project, "node_modules", "next", "dist", "bin", "next");
      await workspace.run(
        [toolNode(), next, "build", ...args],
        options,
      );
      const server = workspace.makeFolder("server");
      cpSync(join(project, ".next", "standalone"), server, {
        recursive: true,
        verbatimSymlinks: true,
      });
      workspace.moveAway(project);
      const client = workspace.project({ "request.mjs": REQUEST });
      return async ({ command }) => {
        const program = [join(client, "request.mjs")];
        await playRoles(
          workspace,
          (role, env) =>
            role === "wait"
              ? workspace.runSilently([...command, ...program], {
                cwd: server,
                env,
              })
              : workspace.runSilently([...command, "program.mjs"], {
                cwd: client,
                env,
              }),
        );
      };
    },
  };
}

const EXTERNAL = { serverExternalPackages: ["@x/portalock"] };

export const nextRows: readonly Row[] = [
  standalone('`output: "standalone"`', {}),
  standalone('`output: "standalone"`, `next build --webpack`', {}, "--webpack"),
  standalone(
    '`output: "standalone"`, `serverExternalPackages`',
    EXTERNAL,
  ),
];
