// Opens each page, follows each of its inner links from the top, and prints how far from its place each end came to stand.
// Usage: node links.mjs CHROMIUM PAGE...
import { basename } from "node:path";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const [executablePath, ...pages] = process.argv.slice(2);
const browser = await puppeteer.launch({ executablePath, headless: true, args: ["--no-sandbox", "--disable-gpu"] });
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const results = [];
try {
  for (const path of pages) {
    const tab = await browser.newPage();
    await tab.setViewport({ width: 1280, height: 900 });
    const url = pathToFileURL(path).href;
    await tab.goto(url, { waitUntil: "load" });
    await pause(300);
    const seen = await tab.evaluate(() => ({
      text: document.body.innerText.length,
      found: window.find("The interval says which values") && getSelection().getRangeAt(0).getBoundingClientRect().top,
      links: [...new Set([...document.querySelectorAll("main a[href^='#'], nav a[href^='#']")].map((a) => a.getAttribute("href")))],
    }));
    await tab.emulateMediaType("print");
    seen.printed = await tab.evaluate(() => document.body.innerText.length);
    await tab.emulateMediaType("screen");
    seen.off = [];
    for (const link of seen.links) {
      await tab.goto("about:blank");
      await tab.goto(url, { waitUntil: "load" });
      await pause(100);
      await tab.evaluate((href) => document.querySelector(`a[href="${href}"]`).click(), link);
      await pause(200);
      const [top, last] = await tab.evaluate((id) => {
        const s = document.scrollingElement;
        return [document.getElementById(id).getBoundingClientRect().top, s.scrollHeight - s.clientHeight - s.scrollTop < 3];
      }, link.slice(1));
      if (Math.abs(top - 16) > 4 && !(last && top > 0 && top < 900)) seen.off.push([link, Math.round(top)]);
    }
    results.push({ page: basename(path), ...seen });
    await tab.close();
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(results));
