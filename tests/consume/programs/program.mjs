/** A program that plays the role that its environment names. */

import process from "node:process";
import { play } from "./roles.mjs";

play(process.env.CONSUME_ROLE, process.env.CONSUME_FOLDER);
