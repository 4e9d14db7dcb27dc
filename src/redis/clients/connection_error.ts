/** Why a server cannot be connected to, where a library does not say it. */

import * as net from "node:net";
import * as tls from "node:tls";
import { parseUrl } from "./url.ts";

/**
 * Connects once, as the user of the URL, and closes the connection.
 *
 * @param timeout How long to wait for a reply, in milliseconds.
 * @returns The error of the system or of the server, or `undefined` if it
 * connects now.
 */
export async function connectionError(
  url: string,
  timeout: number,
): Promise<unknown> {
  const { username = "default", password, ...address } = parseUrl(url);
  const socket = address.tls
    ? tls.connect({ ...address, servername: address.host })
    : net.connect(address);
  try {
    return await new Promise((resolve) => {
      socket.on("error", resolve);
      socket.on("close", () => resolve(undefined));
      socket.setTimeout(timeout, () => resolve(undefined));
      socket.on("data", (data) => {
        const [reply = ""] = String(data).split("\r\n");
        resolve(reply.startsWith("-") ? new Error(reply.slice(1)) : undefined);
      });
      const auth = password === undefined ? [] : ["AUTH", username, password];
      socket.write(encode(["HELLO", "3", ...auth]));
    });
  } finally {
    socket.destroy();
  }
}

/** Encodes a command. */
function encode(words: readonly string[]): string {
  const parts = words.map((word) => `$${byteLength(word)}\r\n${word}\r\n`);
  return `*${words.length}\r\n${parts.join("")}`;
}

function byteLength(word: string): number {
  return new TextEncoder().encode(word).length;
}
