// Draws the first screen of a card, the picture of the README. Usage: node picture.mjs CHROMIUM PAGE OUT.png
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const [executablePath, page, path] = process.argv.slice(2);
const browser = await puppeteer.launch({ executablePath, headless: true, args: ["--no-sandbox", "--disable-gpu"] });
try {
  const tab = await browser.newPage();
  await tab.setViewport({ width: 1120, height: 1180 });
  await tab.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
  await tab.goto(pathToFileURL(page).href, { waitUntil: "load" });
  await tab.screenshot({ path });
} finally {
  await browser.close();
}
