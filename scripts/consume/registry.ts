/** A registry of npm that has this package only. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { root } from "../setup/mod.ts";

/** A running registry. */
export interface Registry {
  /** The variables that make npm, Bun and Deno use it. */
  readonly env: NodeJS.ProcessEnv;
  close(): void;
}

/** Starts a registry on this machine that serves the packed package. */
export async function startRegistry(tarball: string): Promise<Registry> {
  const content = readFileSync(tarball);
  const manifest = JSON.parse(
    readFileSync(join(root, "package.json"), "utf8"),
  );
  const { name, version } = manifest;
  const hash = createHash("sha512").update(content).digest("base64");
  const server = createServer(({ url = "" }, response) => {
    const path = decodeURIComponent(url);
    if (path === "/package.tgz") {
      response.end(content);
    } else if (path === `/${name}`) {
      const { port } = server.address() as AddressInfo;
      const dist = {
        tarball: `http://127.0.0.1:${port}/package.tgz`,
        integrity: `sha512-${hash}`,
      };
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify({
        name,
        "dist-tags": { latest: version },
        versions: { [version]: { ...manifest, dist } },
      }));
    } else {
      response.writeHead(404).end("{}");
    }
  });
  await new Promise<void>((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve())
  );
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}/`;
  return {
    env: { npm_config_registry: url, NPM_CONFIG_REGISTRY: url },
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}
