/** The claim on a PID file, locked through a second file beside it. */

import * as fs from "node:fs";
import process from "node:process";
import { native } from "../../ffi/mod.ts";
import type { NativeFile } from "../../ffi/types.ts";
import { by } from "../holders.ts";
import { quietly, step } from "../recipe.ts";
import type { Recipe } from "../recipe.ts";
import { worthTelling } from "../wait/patience.ts";
import { Refused } from "./claim.ts";
import type { Hold } from "./claim.ts";
import type { FileSettings } from "./file.ts";
import { TemporaryClaim, TemporaryHold } from "./temporary.ts";

/** Where Windows locks a file nobody else can read it, so two are needed. */
const LOCK_SUFFIX = ".lock";

/** More digits than any number of a process has. */
const TOO_MANY_DIGITS = 16;

/** A {@linkcode TemporaryClaim} whose holder tells its PID. */
export class PidClaim extends TemporaryClaim {
  readonly #pidFile: string;

  constructor(pidFile: string, settings: FileSettings) {
    super(pidFile + LOCK_SUFFIX, settings);
    this.#pidFile = pidFile;
  }

  override *hold(file: NativeFile): Recipe<Hold> {
    const hold = new PidHold(this, file, this.#pidFile);
    try {
      yield* publish(this.#pidFile, this.settings.creationMode);
      return hold;
    } catch (error) {
      yield* quietly(hold.release());
      throw error;
    }
  }

  override refused(): Refused {
    return new Refused(({ waited }) => {
      let holders = native().holders(this.path, worthTelling(waited));
      const pid = holders.length === 0 ? pidIn(readSync(this.#pidFile)) : null;
      if (pid !== null) holders = [{ pid, mode: "exclusive" }];
      const reason = `already locked${by(holders)}`;
      return { reason, holderPid: holders[0]?.pid };
    });
  }
}

class PidHold extends TemporaryHold {
  readonly #pidFile: string;

  constructor(claim: PidClaim, file: NativeFile, pidFile: string) {
    super(claim, file);
    this.#pidFile = pidFile;
  }

  protected override remove(): void {
    // Somebody who replaced the lock file has put a PID there, too.
    if (this.file.isAt(this.path)) {
      if (pidIn(readSync(this.#pidFile)) === process.pid) {
        fs.unlinkSync(this.#pidFile);
      }
    }
    super.remove();
  }
}

/**
 * Puts the PID where anybody may read it, so that nobody ever reads half of
 * it. Only the holder does so; what is left of a killed one is replaced.
 */
function* publish(path: string, mode: number): Recipe<void> {
  const temporary = `${path}.tmp`;
  const options = { flag: "wx", mode };
  const text = String(process.pid);
  yield* step(
    async () => {
      await fs.promises.rm(temporary, { force: true });
      await fs.promises.writeFile(temporary, text, options);
      await fs.promises.rename(temporary, path);
    },
    () => {
      fs.rmSync(temporary, { force: true });
      fs.writeFileSync(temporary, text, options);
      fs.renameSync(temporary, path);
    },
  );
}

function readSync(path: string): string {
  try {
    return fs.readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

/** The PID that a text consists of, `null` if it is anything else. */
export function pidIn(text: string): number | null {
  const digits = text.trim();
  const valid = /^[0-9]+$/.test(digits) && digits.length < TOO_MANY_DIGITS;
  return valid && Number(digits) > 0 ? Number(digits) : null;
}
