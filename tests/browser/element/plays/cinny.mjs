// Cinny as the server hands it out: one registers on a desk, another logs in on a phone, and they talk in a room.
import { open, picture, play, seen } from "../lib/stage.mjs";

const { ALICE, ALICE_PASSWORD, BOB, BOB_PASSWORD, ROOM } = process.env;

async function talk(page, text) {
    await page.goto(`${process.env.PAGE_URL}#/home/${encodeURIComponent(ROOM)}/`);
    const join = page.getByRole("button", { name: "Join" }).first(), editor = page.locator("[data-slate-editor]");
    await join.or(editor).first().waitFor();
    if (await join.isVisible()) await join.click();
    await editor.click();
    await editor.pressSequentially(text);
    await page.keyboard.press("Enter");
    await page.locator("[data-message-item]", { hasText: text }).last().waitFor();
    await picture(page, "has-written");
}

await play(async () => {
    const alice = await open("alice", "register", { width: 1280, height: 800 });
    await alice.locator("[name=usernameInput]").fill(ALICE);
    await alice.locator("[name=passwordInput]").fill(ALICE_PASSWORD);
    await alice.locator("[name=confirmPasswordInput]").fill(ALICE_PASSWORD);
    await picture(alice, "registers");
    await alice.getByRole("button", { name: "Register" }).click();
    await alice.waitForURL(/#\/(home|explore|direct)/);
    await talk(alice, "Is anybody there?");
    seen("registered and written on a desk");

    const bob = await open("bob", "login", { width: 390, height: 844 });
    await bob.locator("[name=usernameInput]").fill(BOB.slice(1).split(":")[0]);
    await bob.locator("[name=passwordInput]").fill(BOB_PASSWORD);
    await picture(bob, "logs-in");
    await bob.getByRole("button", { name: "Login" }).click();
    await bob.waitForURL(/#\/(home|explore|direct)/);
    await talk(bob, "On a phone");
    await alice.locator("[data-message-item]", { hasText: "On a phone" }).last().waitFor();
    seen("logged in and written on a phone");
});
