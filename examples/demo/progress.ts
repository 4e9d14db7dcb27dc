/** Shows the progress of the workers: a redrawn block, or plain lines. */

import { rate } from "./team.ts";
import type { Member } from "./team.ts";
import {
  bold,
  cyan,
  dim,
  green,
  interactive,
  number,
  terminalSize,
  widest,
} from "./terminal.ts";

const REDRAW_INTERVAL_MS = 100;
const MAX_BAR = 40;
const MIN_BAR = 5;

const { stdout } = globalThis.process;

/** A display of the progress. */
export interface Progress {
  /** Shows that a worker has reported. */
  report(member: Member): void;
  /** Shows the final state. */
  end(): void;
}

/** Starts the display that suits the output. */
export function showProgress(
  members: readonly Member[],
  increments: number,
): Progress {
  const fits = members.length < terminalSize().rows;
  return interactive && fits
    ? new Block(members, increments)
    : new Lines(members, increments);
}

/** One line per worker, redrawn in place. */
class Block implements Progress {
  readonly #members: readonly Member[];
  readonly #increments: number;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(members: readonly Member[], increments: number) {
    this.#members = members;
    this.#increments = increments;
    // Without wrapping, a terminal that becomes narrower truncates the lines.
    stdout.write("\x1b[?25l\x1b[?7l" + this.#text());
    this.#timer = setInterval(() => this.#redraw(), REDRAW_INTERVAL_MS);
  }

  report() {}

  end() {
    clearInterval(this.#timer);
    this.#redraw();
    stdout.write("\x1b[?7h\x1b[?25h");
  }

  #redraw() {
    // An echoed ^C has moved the cursor from the first column.
    stdout.write(`\r\x1b[${this.#members.length}A${this.#text()}`);
  }

  #text(): string {
    const { columns } = terminalSize();
    const name = widest(this.#members.map((member) => member.name));
    const count = number(this.#increments).length;
    return this.#members
      .map((member) => this.#line(member, columns, name, count))
      .map((line) => `${line}\x1b[K\n`)
      .join("");
  }

  /** `name` and `count` are the widths of those columns. */
  #line(
    member: Member,
    columns: number,
    name: number,
    count: number,
  ): string {
    const left = member.name.padEnd(name);
    const right = number(member.done).padStart(count) +
      `${number(rate(member))}/s`.padStart(9);
    // Two spaces on both sides of the bar, one free column at the end.
    const width = columns - 1 - left.length - right.length - 4;
    if (width < MIN_BAR) return `${bold(left)}  ${right}`;
    const share = member.done / this.#increments;
    return `${bold(left)}  ${bar(share, Math.min(width, MAX_BAR))}  ${right}`;
  }
}

function bar(share: number, width: number): string {
  const full = Math.floor(share * width);
  const color = share === 1 ? green : cyan;
  return color("━".repeat(full)) + dim("╌".repeat(width - full));
}

/** One line for each quarter that a worker has completed. */
class Lines implements Progress {
  readonly #increments: number;
  readonly #quarters = new Map<Member, number>();
  readonly #name: number;

  constructor(members: readonly Member[], increments: number) {
    this.#increments = increments;
    this.#name = widest(members.map((member) => member.name));
  }

  report(member: Member) {
    const quarter = Math.floor(4 * member.done / this.#increments);
    if (quarter === (this.#quarters.get(member) ?? 0)) return;
    this.#quarters.set(member, quarter);
    const count = number(this.#increments).length;
    console.log(
      `${member.name.padEnd(this.#name)}  ` +
        `${`${25 * quarter}`.padStart(3)} %  ` +
        `${number(member.done).padStart(count)}  ` +
        `${number(rate(member))}/s`.padStart(8),
    );
  }

  end() {}
}
