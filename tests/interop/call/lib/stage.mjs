// The stage of a call: a Chromium for each person with a camera and a microphone that are made up, pictures of what they see,
// what of sound and picture has arrived, and how the play ends. Lines of JSON to and from the test, as in ../js/lib/play.mjs.
import { chromium } from "playwright-core";
import path from "node:path";
import { createInterface } from "node:readline";

const { CHROMIUM, PAGE_URL, PICTURES, PLAY_SECONDS } = process.env;
const PATIENCE = 60_000;
const KEPT = 60;
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required"];

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const people = [];
let pictures = 0;

/** Names what the play has just seen come true. */
export const seen = (step) => say({ seen: step });

/** Asks the test for something and gives its answer back. */
export async function ask(what, details = {}) {
    say({ ask: what, ...details });
    const { value } = await answers.next();
    const answer = JSON.parse(value);
    if (answer.error) throw new Error(`${what}: ${answer.error}`);
    return answer;
}

/** Looks again and again, until `check()` gives something true. Answers it, and after how many seconds. */
export async function until(what, check, seconds = 60) {
    const start = Date.now();
    while (Date.now() < start + seconds * 1000) {
        const found = await check();
        if (found) return { found, after: (Date.now() - start) / 1000 };
        await new Promise((wake) => setTimeout(wake, 250));
    }
    throw new Error(`waited ${seconds} s for ${typeof what === "function" ? await what() : what}`);
}

/** One person with a browser of their own. */
class Person {
    constructor(name) {
        Object.assign(this, { name, heard: [] });
        people.push(this);
    }

    async open(config) {
        this.server = await chromium.launchServer({ executablePath: CHROMIUM, args: FLAGS });
        const browser = await chromium.connect(this.server.wsEndpoint());
        const context = await browser.newContext({ viewport: { width: 1000, height: 700 } });
        context.setDefaultTimeout(PATIENCE);
        await context.addInitScript(() => {
            const Connection = window.RTCPeerConnection;
            window.connections = [];
            window.RTCPeerConnection = class extends Connection {
                constructor(...given) {
                    super(...given);
                    window.connections.push(this);
                }
            };
        });
        await context.route("**/call/config.json", (route) => route.fulfill({ json: config }));
        this.context = context;
        this.page = await context.newPage();
        const hear = (line) => this.heard.push(line.slice(0, 400)) > KEPT && this.heard.shift();
        this.page.on("console", (message) => ["error", "warning"].includes(message.type()) && hear(`${message.type()}: ${message.text()}`));
        this.page.on("pageerror", (error) => hear(`error: ${error.stack}`));
        this.page.on("response", (response) => response.status() >= 400 && hear(`${response.status()} ${response.request().method()} ${response.url()}`));
        await this.page.goto(PAGE_URL);
        await this.page.waitForFunction(() => window.host);
    }

    /** Calls what the page offers. */
    host(act, ...given) { return this.page.evaluate(([act, given]) => window.host[act](...given), [act, given]); }

    /** Element Call. */
    get frame() { return this.page.frameLocator("iframe"); }

    async enter(roomId, parameters) {
        await this.host("call", roomId, { intent: "join_existing", ...parameters });
        const button = this.frame.getByTestId("lobby_joinCall");
        await button.waitFor();
        await this.picture("in-the-lobby");
        await button.click();
        await this.frame.getByTestId("incall_leave").waitFor();
    }

    /** What has arrived so far: frames of video that could be decoded, and the energy of the sound. */
    async received() {
        const frame = this.page.frames().find((each) => each.url().includes("/call/"));
        return frame.evaluate(async () => {
            const sum = { frames: 0, energy: 0, packets: 0 };
            for (const connection of window.connections) {
                for (const report of (await connection.getStats()).values()) {
                    if (report.type !== "inbound-rtp") continue;
                    sum.packets += report.packetsReceived ?? 0;
                    if (report.kind === "video") sum.frames += report.framesDecoded ?? 0;
                    else sum.energy += report.totalAudioEnergy ?? 0;
                }
            }
            return sum;
        });
    }

    /** Waits until sound and picture go on arriving. */
    async seesAndHears() {
        const before = await this.received();
        let now = before;
        await until(() => `${this.name} sees and hears nothing: ${JSON.stringify({ before, now })}`, async () => {
            now = await this.received();
            return now.frames >= before.frames + 20 && now.energy > before.energy;
        });
        return now;
    }

    async tiles() { return this.frame.getByTestId("videoTile").count(); }

    async picture(name) {
        pictures += 1;
        await this.page.screenshot({ path: path.join(PICTURES, `${String(pictures).padStart(2, "0")}-${this.name}-${name}.png`) });
    }

    /** As if the machine lost power. */
    async kill() { await this.server.kill(); }
}

export async function open(name, config) {
    const person = new Person(name);
    await person.open(config);
    return person;
}

/** Runs a play to its end and ends the process with it. Whoever fails leaves a picture and what the console said. */
export async function play(body) {
    try {
        const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`not over after ${PLAY_SECONDS} s`)), PLAY_SECONDS * 1000));
        await Promise.race([body(), late]);
        say({ done: true });
    } catch (error) {
        for (const person of people) {
            process.stderr.write(`${person.name}:\n  ${person.heard.join("\n  ")}\n`);
            await person.picture("when-it-failed").catch(() => {});
        }
        process.stderr.write(`${error.stack}\n`);
        process.exitCode = 1;
    }
    for (const person of people) await person.server?.kill().catch(() => {});
    process.exit();
}
