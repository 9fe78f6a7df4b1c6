// What the server itself shows to people: its page, Element under /web/, and the fallback pages, on a desk and on a phone.
import * as element from "../lib/element.mjs";
import { open, picture, play, seen } from "../lib/stage.mjs";

const { ALICE, ALICE_PASSWORD, BOB, BOB_PASSWORD, CONFIRM } = process.env;
const DESK = { width: 1280, height: 800 }, PHONE = { width: 390, height: 844 };

async function fits(page) {
    const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (over > 0) throw new Error(`${page.url()} is ${over} pixels wider than the screen`);
}

async function fallbacks(name, size) {
    const page = await open(name, "/_matrix/static/client/login/", size);
    await fits(page);
    await page.getByLabel("User name").fill(BOB);
    await page.getByLabel("Password").fill("not " + BOB_PASSWORD);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("alert").filter({ hasText: /./ }).waitFor();
    await picture(page, "mistyped");
    await page.getByLabel("Password").fill(BOB_PASSWORD);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "You are logged in" }).waitFor();
    await picture(page, "logged-in-by-the-page");
    const sessions = JSON.parse(CONFIRM);
    await page.goto(new URL(`/_matrix/client/v3/auth/m.login.password/fallback/web?session=${sessions[name]}`, page.url()).href);
    await fits(page);
    await picture(page, "is-asked-for-the-password");
    await page.getByLabel("Password").fill(BOB_PASSWORD);
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("heading", { name: "Done" }).waitFor();
    await picture(page, "has-confirmed");
    await page.goto(new URL("/_matrix/client/v3/auth/m.login.password/fallback/web?session=gone", page.url()).href);
    await page.getByRole("heading", { name: "Too late" }).waitFor();
    await fits(page);
    await picture(page, "comes-too-late");
}

await play(async () => {
    for (const [name, size] of [["desk", DESK], ["phone", PHONE]]) {
        const page = await open(name, "/", size);
        await page.getByRole("heading", { name: "Chat at Example Ltd" }).waitFor();
        await fits(page);
        await picture(page, "the-page");
        await page.getByRole("link", { name: "Open in the browser" }).click();
        await page.waitForURL(/\/web\//);
        await fallbacks(name, size);
    }
    seen("the page of the server, and its fallback pages");

    const alice = await open("alice", "register", DESK);
    await element.register(alice, ALICE, ALICE_PASSWORD);
    await element.createRoom(alice, { name: "Lobby", topic: "come in", alias: `lobby-${ALICE}` });
    await element.write(alice, "Is anybody there?");
    await element.read(alice, "Is anybody there?");
    await picture(alice, "has-written");
    seen("registered and written on a desk");

    const bob = await open("bob", "login", PHONE);
    await picture(bob, "on-a-phone");
    await element.logIn(bob, BOB, BOB_PASSWORD);
    await element.arrive(bob);
    seen("logged in on a phone");
});
