// Draws a page at each width and scale, and prints where its pictures came to stand. Usage: node pictures.mjs CHROMIUM PAGE FOLDER WIDTH@SCALE...
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const [executablePath, page, folder, ...sizes] = process.argv.slice(2);
const browser = await puppeteer.launch({ executablePath, headless: true, args: ["--no-sandbox", "--disable-gpu"] });
const results = [];
try {
  const tab = await browser.newPage();
  for (const size of sizes) {
    const [width, deviceScaleFactor] = size.split("@").map(Number);
    await tab.setViewport({ width, height: 900, deviceScaleFactor });
    await tab.goto(pathToFileURL(page).href, { waitUntil: "load" });
    const boxes = await tab.evaluate(() => [...document.querySelectorAll(".ak-picture")].map((e) => {
      const r = e.getBoundingClientRect();
      return [e.getAttribute("aria-label"), r.left, r.top + scrollY, r.right, r.bottom + scrollY];
    }));
    await tab.screenshot({ path: `${folder}/${size}.png`, fullPage: true });
    results.push({ size, scale: deviceScaleFactor, boxes });
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(results));
