/** Reads the URL of a server. */

/** What a URL says about a server. */
export interface Address {
  /** The path of a socket. */
  path?: string;
  host?: string;
  port: number;
  tls?: boolean;
  username?: string;
  password?: string;
}

const DEFAULT_PORT = 6379;

/** Parses a URL that `options.ts` has checked. All locks are in database 0. */
export function parseUrl(url: string): Address {
  // URL cannot parse a path without a host.
  const socket = /^unix:\/\/(?:([^:@/]*):?([^@/]*)@)?(\/[^?#]+)/.exec(url);
  if (socket) {
    const [, username = "", password = "", path = ""] = socket;
    const address = { port: DEFAULT_PORT, path: decodeURIComponent(path) };
    return withCredentials(address, username, password);
  }
  const { protocol, hostname, port, username, password } = new URL(url);
  const address: Address = {
    host: hostname.replace(/^\[|\]$/g, "") || "localhost",
    port: port === "" ? DEFAULT_PORT : Number(port),
  };
  if (protocol === "rediss:") address.tls = true;
  return withCredentials(address, username, password);
}

function withCredentials(
  address: Address,
  username: string,
  password: string,
): Address {
  if (username !== "") address.username = decodeURIComponent(username);
  if (password !== "") address.password = decodeURIComponent(password);
  return address;
}
