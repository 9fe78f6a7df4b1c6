// Alice registers in Element and Bob logs in: a room, an invitation, a chat, with pictures of the screens on the way.
import { chromium } from "playwright-core";
import path from "node:path";

const { CHROMIUM, PAGE_URL, PICTURES, PLAY_SECONDS, BOB, BOB_PASSWORD, ALICE, ALICE_PASSWORD } = process.env;
const PATIENCE = 30_000;

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const seen = (step) => say({ seen: step });
let pictures = 0;

// The number comes first, so that a listing tells the story.
async function picture(page, name) {
    pictures += 1;
    await page.screenshot({ path: path.join(PICTURES, `${String(pictures).padStart(2, "0")}-${name}.png`) });
}

async function open(browser, name, screen) {
    const context = await browser.newContext({ viewport: { width: 1200, height: 800 } });
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    page.heard = [];
    const hear = (line) => page.heard.push(line.slice(0, 300)) > 40 && page.heard.shift();
    page.on("console", (message) => message.type() === "error" && hear(`console: ${message.text()}`));
    page.on("pageerror", (error) => hear(`error: ${error.stack}`));
    page.on("response", (response) => response.status() >= 400 && hear(`${response.status()} ${response.request().method()} ${response.url()}`));
    page.on("requestfailed", (request) => hear(`failed: ${request.method()} ${request.url()} ${request.failure()?.errorText}`));
    page.nickname = name;
    await page.goto(`${PAGE_URL}#/${screen}`);
    return page;
}

async function main(browser, pages) {
    const alice = await open(browser, "alice", "register");
    pages.push(alice);
    await register(alice);
    const bob = await open(browser, "bob", "login");
    pages.push(bob);
    await logIn(bob);
    seen("one registered, the other logged in");

    await createRoom(alice);
    await invite(alice, BOB);
    await accept(bob);
    seen("an encrypted room created, invited to, joined");

    for (const [from, to, text] of [[alice, bob, "Good morning, Bob!"], [bob, alice, "Good morning! Coffee is redy"], [alice, bob, "Coming"]]) {
        await write(from, text);
        await read(to, text);
    }
    for (const page of pages) await page.getByRole("button", { name: "OK" }).click(); // what there is to know about threads
    seen("a chat both ways");
    await correct(bob, "Good morning! Coffee is ready");
    await read(alice, "Good morning! Coffee is ready");
    await react(bob, "Coming", "👍");
    await alice.locator(".mx_ReactionsRowButton", { hasText: "👍" }).waitFor();
    await picture(alice, "alice-sees-edit-and-reaction");
    seen("an edit and a reaction");

    await bob.reload();
    for (const text of ["Good morning, Bob!", "Good morning! Coffee is ready", "Coming"]) await read(bob, text);
    await write(bob, "I am back");
    await read(alice, "I am back");
    await picture(bob, "bob-after-loading-the-page-anew");
    await picture(alice, "alice-at-the-end");
    seen("the page loaded anew, and the chat going on");
}

async function register(page) {
    await page.getByLabel("Username").fill(ALICE);
    await page.getByLabel("Password", { exact: true }).fill(ALICE_PASSWORD);
    await page.getByLabel("Confirm password").fill(ALICE_PASSWORD);
    await picture(page, "alice-registers");
    await page.getByRole("button", { name: "Register" }).click();
    await page.getByText("Skip", { exact: true }).click();
    await page.getByText("Welcome to Element").waitFor();
    await picture(page, "alice-registered");
}

async function logIn(page) {
    await page.getByLabel("Username").fill(BOB);
    await page.getByLabel("Password", { exact: true }).fill(BOB_PASSWORD);
    await picture(page, "bob-logs-in");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText(/Welcome @?bob/).waitFor();
    await picture(page, "bob-logged-in");
}

async function createRoom(page) {
    await page.getByLabel("Add room").first().click();
    await page.getByText("New room").click();
    await page.getByLabel("Name", { exact: true }).fill("Kitchen");
    await page.getByLabel("Topic (optional)").fill("who washes up");
    await picture(page, "alice-creates-a-room");
    await page.getByRole("button", { name: "Create room" }).click();
    await page.getByText("This is the start of").waitFor();
    await picture(page, "alice-in-the-room");
}

async function invite(page, userId) {
    await page.getByText("Invite to this room").click();
    await page.getByTestId("invite-dialog-input").fill(userId);
    await page.getByRole("button", { name: "Invite", exact: true }).click();
    await page.getByText("invited").first().waitFor();
    await picture(page, "alice-invited");
}

async function accept(page) {
    await page.getByRole("treeitem", { name: /Kitchen/ }).click();
    await page.getByRole("button", { name: "Accept" }).waitFor();
    await picture(page, "bob-is-invited");
    await page.getByRole("button", { name: "Accept" }).click();
    await page.getByRole("textbox", { name: "Send an encrypted message" }).waitFor();
    await picture(page, "bob-joined");
}

async function write(page, text) {
    const box = page.getByRole("textbox", { name: "Send an encrypted message" });
    await box.fill(text);
    await box.press("Enter");
}

const tile = (page, text) => page.locator(".mx_EventTile", { hasText: text }).last();

async function read(page, text) {
    await page.locator(".mx_EventTile_body", { hasText: text }).last().waitFor();
    await picture(page, `${page.nickname}-reads`);
}

// The arrow up takes one's last message for correction, as in any chat program.
async function correct(page, text) {
    await page.getByRole("textbox", { name: "Send an encrypted message" }).press("ArrowUp");
    const box = page.getByRole("textbox", { name: "Edit message" });
    await box.fill(text);
    await box.press("Enter");
}

async function react(page, text, emoji) {
    await tile(page, text).hover();
    await tile(page, text).getByRole("button", { name: "React" }).click();
    await page.locator(".mx_EmojiPicker_footer").getByText(emoji).click();
}

const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
const pages = [];
try {
    const late = new Promise((_, reject) => setTimeout(() => reject(new Error(`not over after ${PLAY_SECONDS} s`)), PLAY_SECONDS * 1000));
    await Promise.race([main(browser, pages), late]);
    say({ done: true });
} catch (error) {
    for (const page of pages) {
        process.stderr.write(`${page.nickname}, at ${page.url()}:\n  ${page.heard.join("\n  ")}\n`);
        await picture(page, `failed-${page.nickname}`).catch(() => {});
    }
    process.stderr.write(`${error.stack}\n`);
    process.exitCode = 1;
}
await browser.close();
process.exit();
