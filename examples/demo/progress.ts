/** Shows how far the workers are: a block that is redrawn, or plain lines. */

import {
  bold,
  cyan,
  dim,
  green,
  interactive,
  number,
  rate,
  terminalSize,
  widest,
} from "./text.mjs";

const REDRAW_INTERVAL = 100;
const LONGEST_BAR = 40;
const SHORTEST_BAR = 5;

const { stdout } = globalThis.process;

/** Picks what suits the output. Both have `report(member)` and `end()`. */
export function progress(members, increments) {
  const fits = members.length < terminalSize().rows;
  return interactive && fits
    ? new Block(members, increments)
    : new Lines(members, increments);
}

/** A line per worker, redrawn in place. */
class Block {
  #members;
  #increments;
  #timer;

  constructor(members, increments) {
    this.#members = members;
    this.#increments = increments;
    // Without wrapping, a terminal made narrower cuts the lines off.
    stdout.write("\x1b[?25l\x1b[?7l" + this.#text());
    this.#timer = setInterval(() => this.#redraw(), REDRAW_INTERVAL);
  }

  report() {}

  end() {
    clearInterval(this.#timer);
    this.#redraw();
    stdout.write("\x1b[?7h\x1b[?25h");
  }

  #redraw() {
    // Back to the first column, which an echoed ^C has left.
    stdout.write(`\r\x1b[${this.#members.length}A${this.#text()}`);
  }

  #text() {
    const { columns } = terminalSize();
    const name = widest(this.#members.map((member) => member.name));
    const count = number(this.#increments).length;
    return this.#members
      .map((member) => this.#line(member, { columns, name, count }))
      .map((line) => `${line}\x1b[K\n`)
      .join("");
  }

  #line(member, { columns, name, count }) {
    const left = member.name.padEnd(name);
    const right = number(member.done).padStart(count) +
      `${number(rate(member))}/s`.padStart(9);
    // Two blanks on both sides of the bar, one column free at the end.
    const room = columns - 1 - left.length - right.length - 4;
    if (room < SHORTEST_BAR) return `${bold(left)}  ${right}`;
    const share = member.done / this.#increments;
    return `${bold(left)}  ${
      bar(share, Math.min(room, LONGEST_BAR))
    }  ${right}`;
  }
}

function bar(share, width) {
  const full = Math.floor(share * width);
  const colour = share === 1 ? green : cyan;
  return colour("━".repeat(full)) + dim("╌".repeat(width - full));
}

/** A line for each quarter that a worker has done. */
class Lines {
  #increments;
  #quarters = new Map();
  #name;

  constructor(members, increments) {
    this.#increments = increments;
    this.#name = widest(members.map((member) => member.name));
  }

  report(member) {
    const quarter = Math.floor(4 * member.done / this.#increments);
    if (quarter === (this.#quarters.get(member) ?? 0)) return;
    this.#quarters.set(member, quarter);
    const count = number(this.#increments).length;
    console.log(
      `${member.name.padEnd(this.#name)}  ${
        `${25 * quarter}`.padStart(3)
      } %  ` +
        `${number(member.done).padStart(count)}  ` +
        `${number(rate(member))}/s`.padStart(8),
    );
  }

  end() {}
}
