// Builds the page of a small client of our own (host.mjs) that embeds Element Call, which lies beside it as it comes from npm.
// Usage: node build.mjs OUT_DIR
import * as esbuild from "esbuild";
import fs from "node:fs";
import path from "node:path";

const out = path.resolve(process.argv[2]);
const modules = path.resolve("node_modules");
fs.rmSync(out, { recursive: true, force: true });
await esbuild.build({
    entryPoints: { host: "host.mjs" }, outdir: out, bundle: true, format: "esm", target: "chrome120", logLevel: "warning",
    define: { global: "globalThis" }, conditions: ["import", "browser"],
    alias: { "@matrix-org/matrix-sdk-crypto-wasm": path.join(modules, "@matrix-org/matrix-sdk-crypto-wasm/index.mjs") },
});
const wasm = "pkg/matrix_sdk_crypto_wasm_bg.wasm"; // looked for beside the script that loads it
fs.cpSync(path.join(modules, "@matrix-org/matrix-sdk-crypto-wasm", wasm), path.join(out, wasm));
fs.cpSync(path.join(modules, "@element-hq/element-call-embedded/dist"), path.join(out, "call"), { recursive: true });
fs.writeFileSync(path.join(out, "index.html"), `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Host</title>
<style>html, body, iframe { margin: 0; width: 100%; height: 100%; border: 0 }</style></head><body><script type="module" src="host.js"></script></body></html>`);
