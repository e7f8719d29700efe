// Loads each page several times in one Chromium and prints medians, nodes, requests, errors, axe violations and overflow.
// Usage: node measure.mjs CHROMIUM MODULES RUNS PAGE...     (MODULES: the node_modules of tests/browser)
import { readFileSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [chromium, modules, runs, ...pages] = process.argv.slice(2);
const require = createRequire(join(modules, "x.js"));
const puppeteer = (await import(pathToFileURL(require.resolve("puppeteer-core")).href)).default;
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const profile = mkdtempSync(join(tmpdir(), "auditkit-chromium-"));
const browser = await puppeteer.launch({ executablePath: chromium, headless: true, userDataDir: profile,
  args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"] });
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

async function open(path, width) {
  const page = await browser.newPage();
  const seen = { requests: 0, errors: 0 };
  page.on("request", (r) => { if (!r.url().startsWith("file:") && !/^(data|blob|about):/.test(r.url())) seen.requests += 1; });
  page.on("pageerror", () => { seen.errors += 1; });
  page.on("console", (m) => { if (m.type() === "error") seen.errors += 1; });
  await page.setViewport({ width, height: 900 });
  await page.goto(pathToFileURL(path).href, { waitUntil: "load", timeout: 120000 });
  return [page, seen];
}

// All pages in turn, again and again: a machine that gets slower meanwhile makes none of them look heavy.
const met = new Map(pages.map((path) => [path, { loads: [] }]));
for (let run = 0; run <= Number(runs); run += 1) {
  for (const path of pages) {
    const [page, seen] = await open(path, 1280);
    const time = await page.evaluate(() => { const t = performance.getEntriesByType("navigation")[0]; return t.loadEventEnd || t.domComplete; });
    const nodes = await page.evaluate(() => document.querySelectorAll("*").length);
    const heap = (await page.metrics()).JSHeapUsedSize / 1e6;
    Object.assign(met.get(path), { seen, nodes, heap });
    if (run) met.get(path).loads.push(time);
    await page.close();
  }
}

const results = [];
for (const path of pages) {
  const { loads, seen, nodes, heap } = met.get(path);
  const [phone] = await open(path, 320);
  const sideways = await phone.evaluate(() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth);
  await phone.close();
  const [page] = await open(path, 1280);
  let violations = null;
  try {
    await page.setBypassCSP(true);
    await page.reload({ waitUntil: "load" });
    await page.evaluate((source) => { (0, eval)(source); }, axe);
    const found = await page.evaluate((tags) => window.axe.run(document, { runOnly: { type: "tag", values: tags }, resultTypes: ["violations"] }), TAGS);
    violations = [found.violations.length, found.violations.reduce((sum, v) => sum + v.nodes.length, 0)];
  } catch (error) { violations = String(error).slice(0, 80); }
  await page.close();
  results.push({ path, bytes: statSync(path).size, load: median(loads), nodes, heap, sideways, violations, ...seen });
}
await browser.close();
rmSync(profile, { recursive: true, force: true });
console.log(JSON.stringify(results));
