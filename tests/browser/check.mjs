// Opens each page at each width in light, dark and print, and prints as one JSON document what went wrong.
// Usage: node check.mjs CHROMIUM PAGE... [--shots FOLDER] [--once]     (--once: one view, without axe)
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const require = createRequire(import.meta.url);
const axeSource = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const args = process.argv.slice(2);
const at = args.indexOf("--shots");
const shots = at < 0 ? null : args.splice(at, 2)[1];
const once = args.includes("--once") ? args.splice(args.indexOf("--once"), 1).length > 0 : false;
const [chromium, ...pages] = args;

const profile = mkdtempSync(join(tmpdir(), "auditkit-chromium-"));
const browser = await puppeteer.launch({
  executablePath: chromium,
  headless: true,
  userDataDir: profile,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND"],
});

async function look(path, width, scheme, media, forced = false) {
  const page = await browser.newPage();
  const requests = [];
  const messages = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("console", (message) => { if (message.type() === "error") messages.push(message.text()); });
  page.on("pageerror", (error) => messages.push(String(error)));
  await page.setViewport({ width, height: 900 });
  // Both at once: setting the one alone would put the other back.
  const session = await page.createCDPSession();
  await session.send("Emulation.setEmulatedMedia", { media, features: [{ name: "prefers-color-scheme", value: scheme },
    { name: "prefers-reduced-motion", value: "reduce" }, { name: "forced-colors", value: forced ? "active" : "none" }] });
  await page.goto(pathToFileURL(path).href, { waitUntil: "load" });
  const url = page.url();
  const facts = await page.evaluate(() => ({
    scroll: document.scrollingElement.scrollWidth,
    client: document.scrollingElement.clientWidth,
    nodes: document.querySelectorAll("*").length,
    title: document.title,
    dark: matchMedia("(prefers-color-scheme: dark)").matches,
    seenForced: matchMedia("(forced-colors: active)").matches,
    ran: Object.prototype.hasOwnProperty.call(window, "auditkitRan"),
    wide: [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1
      && !e.closest(".ak-scroll") && !e.closest(".contents") && !e.closest("svg")).slice(0, 5).map((e) => e.outerHTML.slice(0, 120)),
  }));
  if (shots) {
    // Chromium cannot draw more than 16384 pixels at once.
    const height = Math.min(15000, await page.evaluate(() => document.scrollingElement.scrollHeight));
    const name = `${basename(path, ".html")}-${width}-${scheme}-${media}${forced ? "-forced" : ""}.png`;
    await page.screenshot({ path: join(shots, name), clip: { x: 0, y: 0, width, height }, captureBeyondViewport: true });
  }
  if (once) {
    // Everything opened and every link's end visited: what is hidden might do what the rest does not.
    await page.evaluate(() => { for (const d of document.querySelectorAll("details")) d.open = true; });
    for (const hash of ["#rules", "#reading", "#provenance"]) await page.goto(url + hash).catch(() => null);
    const ran = await page.evaluate(() => Object.prototype.hasOwnProperty.call(window, "auditkitRan"));
    const openOverflow = await page.evaluate(() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth);
    await page.close();
    return { page: basename(path), width, scheme, media, forced, ...facts, ran: ran || facts.ran, openOverflow, messages, violations: [],
      requests: requests.filter((r) => !r.startsWith(url) && !r.startsWith("data:")) };
  }
  // axe is put in past the page's own policy, by the debugger; the page itself runs no script.
  await page.evaluate((source) => { for (const d of document.querySelectorAll("details")) d.open = true; (0, eval)(source); }, axeSource)
    .catch(async () => { await page.setBypassCSP(true); await page.reload({ waitUntil: "load" }); await page.evaluate((s) => { (0, eval)(s); }, axeSource); });
  const result = await page.evaluate((tags) => {
    for (const d of document.querySelectorAll("details")) d.open = true;
    return window.axe.run(document, { runOnly: { type: "tag", values: tags }, resultTypes: ["violations"] });
  }, TAGS);
  const open = await page.evaluate(() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth);
  const violations = result.violations.map((v) => ({ id: v.id, impact: v.impact, nodes: v.nodes.length, first: v.nodes[0].html.slice(0, 200), why: (v.nodes[0].failureSummary || "").slice(0, 300) }));
  await page.close();
  return { page: basename(path), width, scheme, media, forced, ...facts, openOverflow: open, requests: requests.filter((r) => r !== url && !r.startsWith("data:")), messages, violations };
}

const results = [];
try {
  for (const path of pages) {
    if (once) { results.push(await look(path, 1280, "light", "screen")); continue; }
    for (const width of [1280, 375, 320]) {
      for (const scheme of ["light", "dark"]) results.push(await look(path, width, scheme, "screen"));
    }
    for (const width of [1280, 375, 320]) results.push(await look(path, width, "light", "print"));
    for (const scheme of ["light", "dark"]) results.push(await look(path, 1280, scheme, "screen", true));
  }
} finally {
  await browser.close();
  rmSync(profile, { recursive: true, force: true });
}
console.log(JSON.stringify(results));
