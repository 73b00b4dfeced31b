import assert from "node:assert/strict";
import { test } from "node:test";
import { ClusterSecretsKind } from "#kinds/cluster/cluster-secrets.ts";
import { ManualClock } from "#lib/clock.ts";
import { makeSite } from "./fixtures.test.ts";
import { Issued, issuedLifetime } from "./issued.ts";

test("what is issued is kept for half its life, or until the secrets change", async (t) => {
  const site = makeSite(t);
  const clock = new ManualClock();
  let made = 0;
  const issued = new Issued(site.state, clock, async ({ os }) => {
    made++;
    if (made === 5) throw new Error("not this time");
    return os.crt;
  });
  await assert.rejects(issued.get("one"), { code: "not_found" });
  const first = await site.addCluster("one");
  assert.deepEqual(await Promise.all([issued.get("one"), issued.get("one")]), [first.os.crt, first.os.crt]);
  clock.advance(issuedLifetime / 2 - 1);
  await issued.get("one");
  assert.equal(made, 1);
  clock.advance(1);
  await issued.get("one");
  assert.equal(made, 2);
  await site.state.update(ClusterSecretsKind, "one", ({ spec }) => {
    spec.imported = true;
  });
  await issued.get("one");
  assert.equal(made, 3);
  await site.state.destroy(ClusterSecretsKind.key("one"));
  await assert.rejects(issued.get("one"), { code: "not_found" });
  const second = await site.addCluster("one");
  assert.equal(await issued.get("one"), second.os.crt, "a new cluster of the name has other secrets");
  clock.advance(issuedLifetime);
  await assert.rejects(issued.get("one"), /not this time/);
  assert.equal(await issued.get("one"), second.os.crt, "a failure is not kept");
});
