/**
 * A lock on several independent servers, which this package does not offer.
 * docs/redis-safety.md says why. Each server grants the lock to one session at
 * a time, and a session ends with its connection. A client holds the lock while
 * most of the servers have granted it.
 */

import { at } from "../../support/values.ts";
import type { Step, System } from "./explorer.ts";

/** How clients ask servers. */
export type Order = "all at once" | "one by one" | "all at once, and retry";

export interface QuorumConfiguration {
  clients: number;
  servers: number;
  order: Order;
  /** How many servers may stop, with the loss of their data. */
  stops: number;
  /** How many connections may end. */
  ends: number;
  /** How many grants are enough. Default: most of the servers. */
  enough?: number;
}

/** What a client knows of one server, and what it has not read yet. */
interface Link {
  view: "unasked" | "asked" | "granted" | "closed";
  unread: ("granted" | "ended")[];
}

interface Server {
  up: boolean;
  /** The holder, followed by the waiters. */
  queue: number[];
}

export interface QuorumState {
  servers: Server[];
  clients: { at: "waits" | "holds" | "ended"; links: Link[] }[];
  stops: number;
  ends: number;
}

const many = <T>(count: number, create: () => T): T[] =>
  Array.from({ length: count }, create);

/** Returns the system of some clients that acquire the lock once. */
export function quorum(config: QuorumConfiguration): System<QuorumState> {
  return {
    initial: () => ({
      servers: many(config.servers, () => ({ up: true, queue: [] })),
      clients: many(config.clients, () => ({
        at: "waits",
        links: many(config.servers, (): Link => ({
          view: "unasked",
          unread: [],
        })),
      })),
      stops: config.stops,
      ends: config.ends,
    }),
    copy: (state) => structuredClone(state),
    key: (state) => JSON.stringify(state),
    steps: (state) =>
      state.clients.flatMap((_, client) => clientSteps(config, state, client))
        .concat(serverSteps(state)),
    findProblem: (state) => findOverlap(config, state),
    isFinal: ({ clients }) => clients.every(({ at }) => at === "ended"),
    witnesses: {
      "a client holds": ({ clients }) => clients.some(isHolder),
      "a client assumes a lock that it has lost": ({ clients }) =>
        clients.filter(isHolder).length > 1,
    },
  };
}

const isHolder = ({ at }: { at: string }) => at === "holds";

const enough = ({ servers, enough }: QuorumConfiguration) =>
  enough ?? Math.floor(servers / 2) + 1;

/** Two clients hold, and neither has an end to read that it would notice. */
function findOverlap(
  config: QuorumConfiguration,
  { clients }: QuorumState,
): string | undefined {
  const sure = clients.filter(({ at, links }) =>
    at === "holds" &&
    links.filter(({ view, unread }) =>
        view === "granted" && !unread.includes("ended")
      ).length >= enough(config)
  );
  return sure.length > 1 ? "two clients hold at once" : undefined;
}

function clientSteps(
  config: QuorumConfiguration,
  state: QuorumState,
  client: number,
): Step<QuorumState>[] {
  const own = at(state.clients, client);
  const steps: Step<QuorumState>[] = [];
  const addStep = (name: string, apply: (state: QuorumState) => void) =>
    steps.push({ name: `client ${client} ${name}`, apply });
  if (own.at === "ended") return [];
  own.links.forEach(({ view, unread }, server) => {
    const before = own.links.slice(0, server);
    const mayAsk = own.at === "waits" && view === "unasked" &&
      (config.order !== "one by one" ||
        before.every((link) =>
          link.view === "granted" || link.view === "closed"
        ));
    if (mayAsk) {
      addStep(`asks server ${server}`, (next) => ask(next, client, server));
    }
    if (unread.length > 0) {
      addStep(
        `reads ${unread[0]} of server ${server}`,
        (next) => read(config, next, client, server),
      );
    }
  });
  if (own.at === "holds") {
    addStep("releases", (next) => end(next, client));
  } else if (
    config.order === "all at once, and retry" &&
    own.links.every(({ view }) => view !== "unasked")
  ) addStep("starts over", (next) => startOver(next, client));
  return steps;
}

function ask(state: QuorumState, client: number, server: number): void {
  const link = at(at(state.clients, client).links, server);
  const { up, queue } = at(state.servers, server);
  link.view = up ? "asked" : "closed";
  if (up && queue.push(client) === 1) link.unread.push("granted");
  if (!up) giveUp(state, client);
}

function read(
  config: QuorumConfiguration,
  state: QuorumState,
  client: number,
  server: number,
): void {
  const own = at(state.clients, client);
  const link = at(own.links, server);
  link.view = link.unread.shift() === "granted" ? "granted" : "closed";
  const granted = own.links.filter(({ view }) => view === "granted").length;
  if (granted >= enough(config)) own.at = "holds";
  else if (own.at === "holds") end(state, client);
  else giveUp(state, client);
}

/** Ends without the lock if too few servers are left. */
function giveUp(state: QuorumState, client: number): void {
  const { links } = at(state.clients, client);
  const closed = links.filter(({ view }) => view === "closed").length;
  if (closed >= links.length / 2) end(state, client);
}

/** Ends, and removes the client from all servers. */
function end(state: QuorumState, client: number): void {
  const own = at(state.clients, client);
  own.at = "ended";
  for (const link of own.links) {
    Object.assign(link, { view: "closed", unread: [] });
  }
  state.servers.forEach((_, server) => leave(state, client, server));
}

function startOver(state: QuorumState, client: number): void {
  const { links } = at(state.clients, client);
  state.servers.forEach((_, server) => leave(state, client, server));
  for (const link of links) {
    if (link.view !== "closed") {
      Object.assign(link, { view: "unasked", unread: [] });
    }
  }
}

/** The server grants the lock to the next waiter if the holder leaves. */
function leave(state: QuorumState, client: number, server: number): void {
  const { queue } = at(state.servers, server);
  const position = queue.indexOf(client);
  if (position < 0) return;
  queue.splice(position, 1);
  const [next] = queue;
  if (position === 0 && next !== undefined) {
    at(at(state.clients, next).links, server).unread.push("granted");
  }
}

function serverSteps(state: QuorumState): Step<QuorumState>[] {
  return state.servers.flatMap(({ up, queue }, server) => [
    ...up && state.stops > 0
      ? [{
        name: `server ${server} stops`,
        isFault: true,
        apply: (next: QuorumState) => stop(next, server),
      }]
      : [],
    ...state.ends > 0
      ? queue.map((client) => ({
        name: `the connection of client ${client} to server ${server} ends`,
        isFault: true,
        apply: (next: QuorumState) => {
          next.ends--;
          endLink(next, client, server);
        },
      }))
      : [],
  ]);
}

function stop(state: QuorumState, server: number): void {
  state.stops--;
  const stopped = at(state.servers, server);
  stopped.up = false;
  for (const client of stopped.queue.splice(0)) {
    at(at(state.clients, client).links, server).unread.push("ended");
  }
}

function endLink(state: QuorumState, client: number, server: number): void {
  leave(state, client, server);
  at(at(state.clients, client).links, server).unread.push("ended");
}
