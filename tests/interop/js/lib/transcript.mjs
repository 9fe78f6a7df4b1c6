// Every request the SDK makes, in short for whoever reads a failure, and whole (one JSON object a line) for the
// contract check, when HTTP_TRANSCRIPT names a file.
import { appendFileSync } from "node:fs";

const KEPT = 200;
const short = [];
const file = process.env.HTTP_TRANSCRIPT;

/** The last requests: method, address, status, time taken, and the answer where it was an error. */
export const transcript = (count) => short.slice(-count);

function remember(line) {
    short.push(line);
    if (short.length > KEPT) short.shift();
}

function write(line) {
    if (file) appendFileSync(file, JSON.stringify({ at: Date.now(), ...line }) + "\n");
}

/** `fetch` for one named device, remembered. */
export function fetchAs(name) {
    return async (resource, options = {}) => {
        const url = new URL(resource);
        const method = options.method ?? "GET";
        const began = performance.now();
        const what = () => `${(performance.now() - began).toFixed(0).padStart(6)} ms  [${name}] ${method} ${url.pathname}${url.search}`;
        let response;
        try {
            response = await fetch(resource, options);
        } catch (error) {
            const why = error.name === "AbortError" ? "aborted" : (error.cause?.code ?? error.message);
            if (why !== "aborted") remember(`${what()}  failed: ${why}`);
            write({ device: name, server: url.origin, method, path: url.pathname, query: url.search, request: options.body ?? null, status: 0, failed: why });
            throw error;
        }
        const body = await response.clone().text();
        remember(`${what()}  ${response.status}${response.ok ? "" : ` ${body.slice(0, 300)}  sent: ${String(options.body ?? "").slice(0, 300)}`}`);
        const type = response.headers.get("content-type");
        write({ device: name, server: url.origin, method, path: url.pathname, query: url.search, request: options.body ?? null, status: response.status, type, response: body });
        return response;
    };
}
