// Opens a report in Chromium with the network forbidden, and tells as JSON what it finds.
//   node look.mjs REPORT.html axe                      violations of WCAG A and AA in four settings
//   node look.mjs REPORT.html screenshots FOLDER       desktop, phone, dark, print
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [file, what, folder] = process.argv.slice(2);
const page_url = pathToFileURL(resolve(file)).href;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf-8");
const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844 };
const LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

async function open(viewport, colorScheme, options = {}) {
  const context = await browser.newContext({ viewport, colorScheme, ...options });
  const page = await context.newPage();
  const told = { console: [], requests: [] };
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) told.console.push(message.text());
  });
  page.on("pageerror", (error) => told.console.push(String(error)));
  await context.route("**", (route) => {
    if (route.request().url() === page_url) return route.continue();
    told.requests.push(route.request().url());
    return route.abort();
  });
  await page.goto(page_url);
  return { page, context, told };
}

async function violations(viewport, colorScheme) {
  // The page's own policy would refuse the tester's script: it is set aside for the test alone.
  const { page, context, told } = await open(viewport, colorScheme, { bypassCSP: true });
  await page.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = true)));
  await page.addScriptTag({ content: axe });
  const found = await page.evaluate(
    (tags) => window.axe.run(document, { runOnly: tags, resultTypes: ["violations"] }), LEVELS);
  await context.close();
  return {
    ...told, passes: found.passes.length,
    violations: found.violations.map((v) => ({ id: v.id, help: v.help, impact: v.impact,
      nodes: v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200) + " " + n.failureSummary) })),
  };
}

async function keyboard() {
  const { page, context, told } = await open(DESKTOP, "light");
  await page.keyboard.press("Tab");
  const first = await page.evaluate(() => document.activeElement.textContent);
  const wanted = await page.evaluate(() => {
    const seen = [...document.querySelectorAll("a[href], button, summary, input, [tabindex='0']")]
      .filter((e) => e.checkVisibility() && !(e.type === "radio" && !e.checked));
    seen.forEach((e, n) => { e.dataset.stop = n; });
    return seen.length;
  });
  const reached = new Set();
  for (let n = 0; n < wanted + 5; n++) {
    const stop = await page.evaluate(() => document.activeElement.dataset.stop);
    if (stop !== undefined) reached.add(stop);
    await page.keyboard.press("Tab");
  }
  const names = "#least tbody th";
  const before = await page.locator(names).first().textContent();
  await page.locator("#least thead button").nth(3).focus();
  await page.keyboard.press("Enter");
  const sorted = await page.locator("#least thead th").nth(3).getAttribute("aria-sort");
  const numbers = await page.locator("#least tbody tr td:nth-of-type(3)").allTextContents();
  await page.locator("#m-suspect").focus();
  await page.keyboard.press("Space");
  const maps = await page.locator(".heat:visible caption").allTextContents();
  await page.locator("main summary").first().focus();
  await page.keyboard.press("Enter");
  const opened = await page.locator("main details").first().evaluate((d) => d.open);
  await page.locator("input[type=search]").fill(before.slice(0, 8));
  const shown = await page.locator("#least tbody tr:visible").count();
  const status = await page.locator("#told").textContent();
  await context.close();
  return { ...told, first, wanted, reached: reached.size, sorted, numbers, maps, opened, shown, status };
}

async function without_script() {
  const { page, context, told } = await open(DESKTOP, "light", { javaScriptEnabled: false });
  const text = await page.locator("main").innerText();
  await context.close();
  return { ...told, text };
}

async function widths() {
  const { page, context } = await open(PHONE, "light");
  const found = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  await context.close();
  return found;
}

async function screenshots() {
  for (const [name, viewport, scheme, at] of [
    ["desktop", { width: 1280, height: 1500 }, "light", null], ["dark", DESKTOP, "dark", "#where"],
    ["phone", PHONE, "light", null], ["phone-networks", PHONE, "dark", "#believe"],
  ]) {
    const { page, context } = await open(viewport, scheme);
    if (at) await page.evaluate((where) => document.querySelector(where).scrollIntoView(), at);
    await page.screenshot({ path: join(folder, `report-${name}.png`) });
    await context.close();
  }
  const { page, context } = await open({ width: 760, height: 1075 }, "light");
  await page.emulateMedia({ media: "print" });
  await page.evaluate(() => document.querySelector("#where").scrollIntoView());
  await page.screenshot({ path: join(folder, "report-print.png") });
  await page.pdf({ path: join(folder, "report.pdf"), format: "A4", printBackground: true });
  await context.close();
}

let told = {};
if (what === "screenshots") {
  await screenshots();
} else {
  for (const [size, viewport] of [["desktop", DESKTOP], ["phone", PHONE]]) {
    for (const scheme of ["light", "dark"]) {
      told[`${size} ${scheme}`] = await violations(viewport, scheme);
    }
  }
  told = { axe: told, keyboard: await keyboard(), plain: await without_script(), widths: await widths() };
}
await browser.close();
console.log(JSON.stringify(told));
