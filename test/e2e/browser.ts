import { existsSync } from "node:fs";
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from "playwright-core";

const places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

const inPage = new URL("in-page.js", import.meta.url).pathname;

/** Starts the system's Chromium without its own errands; undefined where there is none: give that to `t.skip`. */
export async function openBrowser(): Promise<Browser | undefined> {
  const executablePath = places.find((path) => existsSync(path));
  if (!executablePath) return undefined;
  const args = ["--no-sandbox", "--disable-background-networking", "--disable-gpu", "--disable-quic", "--no-first-run"];
  return chromium.launch({ executablePath, args: [...args, "--disable-component-update", "--disable-sync"] });
}

/**
 * A person at a browser of their own: own cookies, own storage. What a page must never do lands in `faults`: errors on its console, uncaught
 * exceptions, breaches of the content security policy, requests to another host than `origin`.
 */
export async function person(
  browser: Browser,
  origin: string,
  faults: string[],
  options: BrowserContextOptions = {},
): Promise<BrowserContext> {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    viewport: { width: 1280, height: 800 },
    colorScheme: "dark",
    ...options,
  });
  context.setDefaultTimeout(30_000);
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (url.origin !== origin && url.protocol !== "data:") faults.push(`request to ${url.origin}`);
  });
  context.on("console", (message) => {
    // Network interfaces of the machine come and go while other tests run: that is no fault of the page, which goes on by itself.
    if (message.text().includes("ERR_NETWORK_CHANGED")) return;
    if (message.type() === "error" || message.type() === "warning") faults.push(`console: ${message.text()}`);
  });
  context.on("weberror", (error) => faults.push(`uncaught: ${error.error().message}`));
  await context.addInitScript({ path: inPage });
  return context;
}

/** Texts of a page that are hard to read, in dark and in light. */
export async function faintTexts(page: Page): Promise<string[]> {
  const faint: string[] = [];
  for (const colorScheme of ["dark", "light"] as const) {
    await page.emulateMedia({ colorScheme });
    for (const text of await page.evaluate<string[]>("faintTexts()")) faint.push(`${colorScheme}: ${text}`);
  }
  return faint;
}

/** How many pixels of a page stick out at the right of the window. */
export function sticksOut(page: Page): Promise<number> {
  return page.evaluate<number>("document.scrollingElement.scrollWidth - innerWidth");
}
