// The stage of a play in Chromium: pages of people, pictures of what they see, what was said on the wire, and how it ends.
import { chromium } from "playwright-core";
import { appendFileSync } from "node:fs";
import path from "node:path";

const { CHROMIUM, PAGE_URL, PICTURES, PLAY_SECONDS, HTTP_TRANSCRIPT } = process.env;
const PATIENCE = 30_000;
const KEPT = 40;
const FAKE_MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]; // it beeps

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const pages = [];
let pictures = 0;
let browser;

/** Names what the play has just seen come true. */
export const seen = (step) => say({ seen: step });

/** A picture of the whole window. The number comes first, so that a listing tells the story. */
export async function picture(page, name) {
    pictures += 1;
    const file = `${String(pictures).padStart(2, "0")}-${page.nickname}-${name}.png`;
    await page.screenshot({ path: path.join(PICTURES, file) });
}

/** A window of one person's, with nothing in it that another's has. */
export async function open(nickname, screen, size = { width: 1200, height: 800 }) {
    const context = await browser.newContext({ viewport: size, isMobile: size.width < 600, hasTouch: size.width < 600 });
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    page.nickname = nickname;
    page.heard = [];
    const hear = (line) => page.heard.push(line.slice(0, 300)) > KEPT && page.heard.shift();
    page.on("console", (message) => message.type() === "error" && hear(`console: ${message.text()}`));
    page.on("pageerror", (error) => hear(`error: ${error.stack}`));
    page.on("response", (response) => response.status() >= 400 && hear(`${response.status()} ${response.request().method()} ${response.url()}`));
    page.on("requestfailed", (request) => hear(`failed: ${request.method()} ${request.url()} ${request.failure()?.errorText}`));
    page.on("response", (response) => write(nickname, response).catch(() => {})); // the body is gone with the page it was for
    pages.push(page);
    await page.goto(screen.startsWith("/") ? new URL(screen, PAGE_URL).href : `${PAGE_URL}#/${screen}`);
    return page;
}

// For the contract check, as the plays of tests/interop write it.
async function write(device, response) {
    const request = response.request();
    const url = new URL(response.url());
    if (!url.pathname.startsWith("/_matrix/") || request.method() === "OPTIONS") return;
    const type = response.headers()["content-type"] ?? null;
    const line = { at: Date.now(), device, method: request.method(), path: url.pathname, query: url.search, request: request.postData(), status: response.status(), type };
    const body = type?.includes("json") ? await response.text() : ""; // of pictures and films there is nothing to be checked
    appendFileSync(HTTP_TRANSCRIPT, JSON.stringify({ ...line, response: body }) + "\n");
}

/** Runs a play to its end and ends the process with it. Whoever fails leaves a picture and what the console said. */
export async function play(body) {
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", ...FAKE_MICROPHONE] });
    try {
        const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`not over after ${PLAY_SECONDS} s`)), PLAY_SECONDS * 1000));
        await Promise.race([body(), late]);
        say({ done: true });
    } catch (error) {
        for (const page of pages) {
            process.stderr.write(`${page.nickname}, at ${page.url()}:\n  ${page.heard.join("\n  ")}\n`);
            await picture(page, "when-it-failed").catch(() => {});
        }
        process.stderr.write(`${error.stack}\n`);
        process.exitCode = 1;
    }
    await browser.close();
    process.exit();
}
