// `node tools/screenshot.ts`: takes docs/console.png anew, of one running cluster on a real plane with emulated machines. Needs Chromium.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { openBrowser, person } from "../test/e2e/browser.ts";
import { TestPlane, template } from "../test/e2e/harness.ts";

const plane = new TestPlane("screenshot");
const browser = await openBrowser();
if (!browser) throw new Error("there is no Chromium on this machine");
try {
  const link = await plane.start();
  const machines = await plane.emulate(5);
  const file = join(plane.data, "shop.yaml");
  writeFileSync(file, template("shop", machines.slice(0, 3), machines.slice(3)));
  const joined = await plane.cli("machine", "wait", "--count", "5", "--timeout", "60s");
  if (joined.code !== 0) throw new Error(joined.stderr);
  const synced = await plane.cli("template", "sync", file, "--wait", "--timeout", "120s");
  if (synced.code !== 0) throw new Error(synced.stderr);

  const page = await (await person(browser, new URL(link).origin, [])).newPage();
  await page.goto(link);
  await page.getByRole("navigation").getByRole("link", { name: "Clusters 1" }).click();
  await page.getByRole("link", { name: "shop" }).click();
  await page
    .getByRole("status")
    .filter({ hasText: /^Running$/ })
    .waitFor();
  await page.getByRole("link").filter({ hasText: "ready" }).nth(4).waitFor();
  await page.screenshot({ path: "docs/console.png" });
} finally {
  await browser.close();
  await plane.stop();
}
