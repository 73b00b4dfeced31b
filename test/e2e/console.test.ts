import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, afterEach, before, type TestContext, test } from "node:test";
import type { Browser, BrowserContext, Locator, Page } from "playwright-core";
import { faintTexts, openBrowser, person, sticksOut } from "./browser.ts";
import { TestPlane, template } from "./harness.ts";

// The console as a person at a browser finds it: by role and name, with real machines of the emulator behind it.

const plane = new TestPlane("console");
const faults: string[] = [];
let browser: Browser | undefined;
let link = "";
let origin = "";
let anna: BrowserContext;
let page: Page;
let machines: string[] = [];
let first = "";

before(async () => {
  browser = await openBrowser();
  if (!browser) return;
  link = await plane.start();
  origin = new URL(link).origin;
  anna = await person(browser, origin, faults, { permissions: ["clipboard-read", "clipboard-write"] });
  page = await anna.newPage();
});
afterEach(() => assert.deepEqual(faults.splice(0), [], "the console never does these"));
after(async () => {
  await browser?.close();
  await plane.stop();
});

/** A test that needs the browser, and says so where there is none. */
const inBrowser = (name: string, run: (t: TestContext, browser: Browser) => Promise<void>) =>
  test(name, { timeout: 120_000 }, (t) => (browser ? run(t, browser) : t.skip("there is no Chromium on this machine")));

const heading = (name: string, on = page) => on.getByRole("heading", { level: 1, name, exact: true });
const region = (name: string, on = page) => on.getByRole("region", { name, exact: true });
const rows = () => page.getByRole("row").filter({ has: page.getByRole("rowheader") });
const go = (path: string) => page.goto(origin + path);
const signinLink = async () => (await plane.cli("signin")).stdout.trim();
const file = (name: string, text: string) => {
  writeFileSync(join(plane.data, name), text);
  return join(plane.data, name);
};
/** For what machines must do: where it does not come, the failure says what the plane waits for. */
const comes = (what: Locator) =>
  what.waitFor({ timeout: 90_000 }).catch(async (cause: Error) => {
    const { stdout, stderr } = await plane.cli("cluster", "status", "shop");
    const alerts = await page.getByRole("alert").allTextContents();
    throw new Error(`${cause.message}\n${stdout}${stderr}${alerts.join("\n")}`, { cause });
  });
/** Waits until there are so many. */
const count = (of: Locator, number: number) =>
  number === 0
    ? of.first().waitFor({ state: "detached" })
    : Promise.all([of.nth(number - 1).waitFor(), of.nth(number).waitFor({ state: "detached" })]);

inBrowser("who is signed out is sent to sign-in, and comes back by the link that `up` printed", async () => {
  await go("/join");
  await heading("Sign in").waitFor();
  assert.equal(await page.title(), "Sign in · Ichor");
  await page.goto(link);
  await heading("Join a machine").waitFor();
  assert.equal(new URL(page.url()).pathname, "/join");
  assert.equal(await page.title(), "Join a machine · Ichor");
  assert.ok((await anna.cookies()).every(({ httpOnly, secure }) => httpOnly && secure));
});

inBrowser("a sign-in link works once", async (_, browser) => {
  const eve = await person(browser, origin, faults);
  const other = await eve.newPage();
  await other.goto(link);
  await other.getByRole("alert").waitFor();
  await heading("Sign in", other).waitFor();
  await other.goto(`${origin}/machines`);
  await heading("Sign in", other).waitFor();
  await eve.close();
  // For whoever it signed in, it is only a way back.
  await page.goto(link);
  await heading("Machines").waitFor();
});

inBrowser("sign-in leads nowhere but into the console", async (_, browser) => {
  const eve = await person(browser, origin, faults);
  const other = await eve.newPage();
  for (const next of ["//example.com/", "https://example.com/", "/\\example.com", "javascript:alert(1)"]) {
    await other.goto(`${origin}/signin?next=${encodeURIComponent(next)}`);
    await heading("Sign in", other).waitFor();
    await other.goto(await signinLink());
    await heading("Machines", other).waitFor();
    assert.equal(new URL(other.url()).origin, origin);
  }
  await eve.close();
});

inBrowser("the join page shows what `ichor join` prints, and copies it", async () => {
  await go("/join");
  const shown = region("Kernel arguments");
  for (const more of [[], ["--tunnel"]]) {
    const { stdout } = await plane.cli("join", "--kernel-args", ...more);
    if (more.length) await page.getByRole("checkbox", { name: /UDP is blocked/ }).check();
    await shown.getByText(stdout.trim(), { exact: true }).waitFor();
  }
  await page.getByRole("button", { name: "Copy kernel arguments" }).click();
  await page.getByRole("status").filter({ hasText: "Copied" }).waitFor();
  assert.equal(await page.evaluate("navigator.clipboard.readText()"), await shown.textContent());
});

inBrowser("machines appear as they join, without a reload", async () => {
  await go("/machines");
  await page.getByText("No machine has joined yet").waitFor();
  await page.getByRole("link", { name: "Show the kernel arguments" }).waitFor();
  await page.evaluate("globalThis.sameDocument = true");
  machines = await plane.emulate(5);
  await count(rows().filter({ hasText: "maintenance" }), 5);
  await page.getByRole("status").filter({ hasText: "5 joined, 5 connected" }).waitFor();
  await page.getByRole("navigation").getByRole("link", { name: "Machines 5" }).waitFor();
  assert.equal(await page.evaluate("sameDocument"), true);
  const listed = await plane.json<{ id: string; hostname: string }[]>("machine", "list");
  first = listed.find(({ id }) => id === machines[0])?.hostname ?? "";
  assert.notEqual(first, "");
});

inBrowser("the list is searched, sorted and opened by keys alone", async () => {
  const names = () => page.getByRole("rowheader").allTextContents();
  const before = await names();
  await page.keyboard.press("/");
  await page.keyboard.type(`${first} maintenance`);
  await count(rows(), 1);
  assert.equal(new URL(page.url()).searchParams.get("q"), `${first} maintenance`);
  await page.reload();
  await count(rows(), 1);
  await page.getByRole("searchbox", { name: "Search machines" }).fill("nothing like that");
  await page.getByText("No machine matches “nothing like that”.").waitFor();
  await go("/machines?sort=no-such-column");
  await page.getByRole("searchbox").fill("");
  await count(rows(), 5);

  await page.getByRole("columnheader", { name: "Name" }).getByRole("button").press("Enter");
  await page.getByRole("columnheader", { name: "Name" }).and(page.locator("[aria-sort=descending]")).waitFor();
  assert.deepEqual(await names(), before.toReversed());

  await page.getByRole("searchbox").focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  const focused = page.locator(":focus");
  assert.equal(await focused.textContent(), before.at(-2));
  assert.equal(await page.evaluate("getComputedStyle(document.activeElement).outlineStyle"), "solid");
  await page.keyboard.press("Enter");
  await heading(before.at(-2) ?? "").waitFor();
  await page.keyboard.press("g");
  await page.keyboard.press("m");
  await heading("Machines").waitFor();
});

inBrowser("one machine shows hardware, network, services and its log, also after a reload", async () => {
  await page.getByRole("link", { name: first }).click();
  for (const reload of [false, true]) {
    if (reload) await page.reload();
    await heading(first).waitFor();
    await region("Hardware").getByText("Processor").waitFor();
    await region("Hardware")
      .getByText(/\d+ GB .*/)
      .first()
      .waitFor();
    await region("Network")
      .getByText(/^fdae:41e4:649b:9303:/)
      .waitFor();
    await region("Services").getByRole("listitem").filter({ hasText: "apid" }).waitFor();
    await page.getByRole("log", { name: "Machine log" }).getByText("waiting for a configuration").first().waitFor();
    assert.equal(await page.title(), `${first} · Ichor`);
  }
});

inBrowser("who is signed out and opens a machine's address ends at the machine", async (_, browser) => {
  const ben = await person(browser, origin, faults);
  const other = await ben.newPage();
  await other.goto(`${origin}/machines/${machines[0]}`);
  await heading("Sign in", other).waitFor();
  // The link opens in a tab of its own, as from a mail.
  const tab = await ben.newPage();
  await tab.goto(await signinLink());
  await heading(first, tab).waitFor();
  await tab.getByRole("button", { name: "Sign out" }).click();
  await heading("Sign in", tab).waitFor();
  await tab.goto(`${origin}/machines`);
  await heading("Sign in", tab).waitFor();
  await ben.close();
});

inBrowser("addresses that lead nowhere say so, with a way back", async () => {
  for (const [path, what, back] of [
    ["/machines/no-such-machine", "machine", "To the machines"],
    ["/clusters/no-such-cluster", "cluster", "To the clusters"],
    ["/no/such/page", "page", "To the machines"],
  ] as const) {
    await go(path);
    await heading(`There is no such ${what}`).waitFor();
    await page.getByRole("link", { name: back }).waitFor();
  }
});

inBrowser("a template's cluster appears with its progress, and its machines' logs go on live", async () => {
  await go("/clusters");
  await page.getByText("There is no cluster yet").waitFor();
  const tab = await anna.newPage();
  await tab.goto(`${origin}/machines/${machines[0]}`);
  const log = tab.getByRole("log", { name: "Machine log" });
  await region("Services", tab).getByRole("listitem").filter({ hasText: "apid" }).waitFor();
  assert.equal(await log.getByText("machine is running and ready").count(), 0);
  await tab.evaluate("globalThis.sameDocument = true");

  const path = file("shop.yaml", template("shop", machines.slice(0, 3), machines.slice(3)));
  const synced = await plane.cli("template", "sync", path);
  assert.equal(synced.code, 0, synced.stderr);
  await page.getByRole("link", { name: "shop" }).click();
  await heading("shop").waitFor();
  await count(region("Progress").getByRole("listitem"), 6);
  await count(region("Control planes").getByRole("link"), 3);
  await count(region("Workers").getByRole("link"), 2);
  await comes(page.getByRole("status").filter({ hasText: /^Running$/ }));
  await count(region("Progress").getByRole("listitem").filter({ hasText: "done" }), 6);
  await count(region("Topology").getByRole("link").filter({ hasText: "ready" }), 5);

  await log.getByText("machine is running and ready").first().waitFor();
  assert.equal(await tab.evaluate("sameDocument"), true);
  await tab.reload();
  await log.getByText("machine is running and ready").first().waitFor();
  await log.evaluate((box) => box.scrollTo({ top: 0 }));
  await tab.getByRole("button", { name: "To the end" }).click();
  await tab.getByRole("button", { name: "To the end" }).waitFor({ state: "detached" });
  await tab.getByRole("status").filter({ hasText: "running" }).waitFor();
  await tab.getByRole("link", { name: "shop" }).waitFor();
  await region("Topology").getByRole("link", { name: first }).click();
  await heading(first).waitFor();
  await tab.close();
});

inBrowser("every page can be read in dark and in light, and fits a small screen", async () => {
  const small = { width: 390, height: 844 };
  for (const [path, name] of [
    ["/machines", "Machines"],
    [`/machines/${machines[0]}`, first],
    ["/clusters", "Clusters"],
    ["/clusters/shop", "shop"],
    ["/join", "Join a machine"],
    ["/plane", "Plane"],
    ["/machines/no-such-machine", "There is no such machine"],
    ["/signin", "Sign in"],
  ] as const) {
    await go(path);
    await heading(name).waitFor();
    await page.getByText("Loading").first().waitFor({ state: "detached" });
    assert.deepEqual(await faintTexts(page), [], path);
    const large = page.viewportSize();
    await page.setViewportSize(small);
    assert.equal(await sticksOut(page), 0, `${path} is wider than a small screen`);
    if (large) await page.setViewportSize(large);
  }
});

inBrowser("a plane that is down is told, what was known stays, and it goes on when the plane is back", async () => {
  await go("/machines");
  await count(rows(), 5);
  await plane.kill();
  await page.getByText("The plane does not answer").waitFor();
  await count(rows(), 5);
  assert.deepEqual(await faintTexts(page), []);
  await plane.start();
  await page.getByText("The plane does not answer").waitFor({ state: "detached" });
  await page.getByRole("status").filter({ hasText: "5 joined, 5 connected" }).waitFor();
  // The browser itself writes down each call that found nobody.
  const others = faults.splice(0).filter((fault) => !/Failed to load resource: net::ERR_/.test(fault));
  assert.deepEqual(others, []);
});

inBrowser("a cluster is destroyed by its name alone, and its machines are free again", async () => {
  await go("/clusters/shop");
  await page.getByRole("button", { name: "Destroy cluster" }).click();
  const dialog = page.getByRole("dialog", { name: "Destroy cluster" });
  const sure = dialog.getByRole("button", { name: "Destroy cluster" });
  assert.ok(await sure.isDisabled());
  await page.keyboard.type("shop-");
  await page.keyboard.press("Enter");
  assert.ok(await sure.isDisabled());
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });

  await page.getByRole("button", { name: "Destroy cluster" }).click();
  await page.keyboard.type("shop");
  await page.keyboard.press("Enter");
  await comes(page.getByText("There is no cluster yet"));
  assert.deepEqual(await plane.json("cluster", "list"), []);
  await page.getByRole("link", { name: /^Machines/ }).click();
  await count(rows().filter({ hasText: "available" }), 5);
});
