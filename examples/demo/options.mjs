/** The command line of the demo. */

export const USAGE = `Usage: npm run demo -- [options]

Deno, Bun, Node and Python's portalocker, where it is installed, add to one
number in one file, and the lock on that file keeps every increment.

Options:
  --no-lock       Do the same without locking
  --increments N  How often each process adds 1 (default 4000)
  --workers N     How many processes each runtime starts (default 1)
  --help          Show this

The exit status is 0 if the sum is exact, 1 if it is not or a process fails,
2 if the options are wrong.
`;

const NUMBERS = {
  "--increments": { name: "increments", most: 1_000_000 },
  "--workers": { name: "workers", most: 32 },
};
const SWITCHES = {
  "--no-lock": { locked: false },
  "--help": { help: true },
};

/**
 * Reads the command line.
 *
 * @throws {RangeError} If it names an unknown option or an impossible value.
 */
export function parseOptions(args) {
  const options = { locked: true, increments: 4000, workers: 1, help: false };
  const rest = args.flatMap(splitAtEquals);
  while (rest.length > 0) Object.assign(options, parseOption(rest));
  return options;
}

function splitAtEquals(arg) {
  const [name] = arg.split("=", 1);
  return Object.hasOwn(NUMBERS, name) && name !== arg
    ? [name, arg.slice(name.length + 1)]
    : [arg];
}

function parseOption(rest) {
  const option = rest.shift();
  if (Object.hasOwn(SWITCHES, option)) return SWITCHES[option];
  if (Object.hasOwn(NUMBERS, option)) {
    const { name, most } = NUMBERS[option];
    return { [name]: parseNumber(option, rest.shift(), most) };
  }
  const known = [...Object.keys(SWITCHES), ...Object.keys(NUMBERS)];
  throw new RangeError(
    `unknown option ${option}; the options are ${known.join(", ")}`,
  );
}

function parseNumber(option, text, most) {
  const number = /^\d+$/.test(text ?? "") ? Number(text) : NaN;
  if (number >= 1 && number <= most) return number;
  throw new RangeError(
    `${option} takes a whole number from 1 to ${most}, not ${
      text === undefined ? "nothing" : JSON.stringify(text)
    }`,
  );
}
