// What matrix-js-sdk expects of a browser and Node 20 lacks; imported before the SDK. What the SDK says goes to a
// bounded memory instead of the screen: it is printed when a play fails.
import "fake-indexeddb/auto";

Promise.withResolvers ??= function () {
    const it = {};
    it.promise = new this((resolve, reject) => Object.assign(it, { resolve, reject }));
    return it;
};

const KEPT = 400;
const lines = [];

function keep(level, parts) {
    const text = parts.map((part) => (part instanceof Error ? String(part) : typeof part === "object" ? safe(part) : part)).join(" ");
    lines.push(`${level} ${text}`.replaceAll(/\s*\n\s*at .*/g, "").replaceAll(/\s*\n\s*/g, " | ").slice(0, 400));
    if (lines.length > KEPT) lines.shift();
}

function safe(value) {
    try {
        return JSON.stringify(value) ?? String(value);
    } catch {
        return String(value);
    }
}

for (const level of ["trace", "debug", "log", "info", "warn", "error"]) {
    console[level] = (...parts) => keep(level, parts);
}

/** A logger as the SDK wants it, whose lines name the device that speaks. */
export function loggerFor(name) {
    const at = (level) => (...parts) => keep(`${level} [${name}]`, parts);
    return { trace() {}, debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error"), getChild: (child) => loggerFor(`${name} ${child}`) };
}

/** The last lines the SDK said. */
export const said = () => [...lines];
