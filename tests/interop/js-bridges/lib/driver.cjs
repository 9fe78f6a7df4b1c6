// What both drivers have in common: a line of JSON on standard output for whatever they see, and commands that people say.
const Module = require("node:module");

// The native half of the packages' cryptography is downloaded when they are installed, from where a test shall not depend on.
// Without it they run as they do where encryption is not asked for, as long as whoever names it gets something.
const load = Module._load;
Module._load = (name, ...rest) => (name.endsWith("matrix-sdk-crypto-nodejs") ? {} : load(name, ...rest));

/** Tells the test something. */
exports.tell = (what, details = {}) => process.stdout.write(JSON.stringify({ ...details, tells: what }) + "\n");

/** Does what a message asks for, if there is such a command: `!word the rest`. What goes wrong is told. */
exports.obey = async (commands, roomId, event) => {
    const [, word, rest] = /^!(\w+) ?(.*)$/s.exec(event.content?.body ?? "") ?? [];
    if (!Object.hasOwn(commands, word ?? "")) return;
    try {
        await commands[word](roomId, rest, event);
    } catch (error) {
        exports.tell("failed", { command: word, error: String(error?.stack ?? error), body: error?.body ?? null });
    }
};

process.on("unhandledRejection", (error) => exports.tell("failed", { command: null, error: String(error?.stack ?? error), body: error?.body ?? null }));
