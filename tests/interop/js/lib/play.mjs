// A play: a program that uses a homeserver through matrix-js-sdk and says, a line of JSON at a time on its standard
// output, what it has seen. What it cannot do itself (kill the server, be another program) it asks of the test that
// started it: `{"ask": ...}` out, one line of JSON back on its standard input.
import { said } from "./prelude.mjs";
import { transcript } from "./transcript.mjs";
import { createInterface } from "node:readline";

export const baseUrl = process.env.HOMESERVER_URL;
/** Of a second server, in plays that have one. */
export const otherUrl = process.env.OTHER_HOMESERVER_URL;

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Names what the play has just seen come true. */
export const seen = (step) => say({ seen: step });

/** Asks the test for something and gives its answer back. */
export async function ask(what, details = {}) {
    say({ ask: what, ...details });
    const { value, done } = await answers.next();
    if (done) throw new Error(`nobody answered: ${what}`);
    const answer = JSON.parse(value);
    if (answer.error) throw new Error(`${what}: ${answer.error}`);
    return answer;
}

/** Runs a play to its end and ends the process with it, whatever timers the SDK still holds. */
export async function play(body) {
    process.on("unhandledRejection", (error) => console.error("unhandled rejection", error));
    const seconds = Number(process.env.PLAY_SECONDS ?? 120);
    try {
        await Promise.race([body(), new Promise((_, reject) => setTimeout(() => reject(new Error(`not over after ${seconds} s`)), seconds * 1000))]);
        say({ done: true });
        process.exitCode = 0;
    } catch (error) {
        const spoke = said().slice(-25).join("\n");
        process.stderr.write(`the SDK said:\n${spoke}\n\nlast requests:\n${transcript(30).join("\n")}\n\n${error?.stack ?? error}\n`);
        process.exitCode = 1;
    }
    await new Promise((resolve) => process.stdout.write("", resolve));
    process.exit();
}

/** Fails the play with what was expected and what there is. */
export function expect(expected, actual, what) {
    const [left, right] = [JSON.stringify(expected), JSON.stringify(actual)];
    if (left !== right) throw new Error(`${what}: expected ${left}, got ${right}`);
}

/** Fails the play unless the promise is refused by the server with this error. */
export async function refused(errcode, promise, what) {
    try {
        await promise;
    } catch (error) {
        expect(errcode, error.errcode, what);
        return error;
    }
    throw new Error(`${what}: expected ${errcode}, but it was accepted`);
}
