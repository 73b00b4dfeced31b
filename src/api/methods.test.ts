import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type DescMethod, type DescService } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { State } from "#gen/cosi/resource/resource_pb.ts";
import { PlaneService, SessionService } from "#gen/ichor/v1/ichor_pb.ts";
import { ManagementService } from "#gen/management/management_pb.ts";
import { atLeast } from "#guard/caller.ts";
import { type Role, roles } from "#resource/kind.ts";
import { outcome, startApi } from "./fixtures.test.ts";
import { leastRole } from "./method-access.ts";

const services = [State, ManagementService, SessionService, PlaneService] as const;

/**
 * Every method and the least role that reaches it, once more: whoever changes the table says so here too. `-`: not built yet; this list
 * only shrinks.
 */
const expected: Record<string, string> = {
  "State/Get": "None",
  "State/List": "None",
  "State/Create": "None",
  "State/Update": "None",
  "State/Destroy": "None",
  "State/Watch": "None",
  "State/Teardown": "None",
  "State/TeardownAndDestroy": "None",
  "ManagementService/Kubeconfig": "Reader",
  "ManagementService/Talosconfig": "Reader",
  "ManagementService/Omniconfig": "Reader -",
  "ManagementService/MachineLogs": "Reader",
  "ManagementService/ValidateConfig": "Reader -",
  "ManagementService/ValidateJSONSchema": "Reader -",
  "ManagementService/CreateServiceAccount": "Admin -",
  "ManagementService/RenewServiceAccount": "Admin -",
  "ManagementService/ListServiceAccounts": "Admin -",
  "ManagementService/DestroyServiceAccount": "Admin -",
  "ManagementService/KubernetesUpgradePreChecks": "Operator -",
  "ManagementService/KubernetesSyncManifests": "Operator -",
  "ManagementService/CreateSchematic": "Operator -",
  "ManagementService/CreateSchematicFromRaw": "Operator -",
  "ManagementService/GetSupportBundle": "Operator -",
  "ManagementService/ReadAuditLog": "Auditor -",
  "ManagementService/MaintenanceUpgrade": "Operator -",
  "ManagementService/MaintenanceLifecycle": "Operator -",
  "ManagementService/GetMachineJoinConfig": "Operator",
  "ManagementService/CreateJoinToken": "Admin",
  "ManagementService/ResetNodeUniqueToken": "Operator -",
  "ManagementService/CreateUser": "Admin -",
  "ManagementService/ListUsers": "Admin -",
  "ManagementService/UpdateUser": "Admin -",
  "ManagementService/DestroyUser": "Admin -",
  "ManagementService/MachinePowerOff": "Operator -",
  "ManagementService/MachinePowerOn": "Operator -",
  "SessionService/SignIn": "anybody",
  "SessionService/SignOut": "None",
  "SessionService/WhoAmI": "None",
  "SessionService/CreateSignInLink": "Admin",
  "PlaneService/Graph": "Reader",
  "PlaneService/Status": "Reader",
};

/** Calls with nothing in the request: past the door, most methods have something to say about that. */
function call(client: Client<DescService>, method: DescMethod) {
  const send = (client as Record<string, (request: unknown) => Promise<unknown>>)[method.localName]!;
  return outcome(send(create(method.input)));
}

test("the table names every method of every service", () => {
  const found = services.flatMap((service) => service.methods.map(({ name }) => `${service.name}/${name}`));
  assert.deepEqual(found.sort(), Object.keys(expected).sort());
  for (const service of services) {
    for (const { name } of service.methods)
      assert.equal(leastRole(`${service.typeName}/${name}`), expected[`${service.name}/${name}`]?.split(" ")[0]);
  }
  // What nobody thought of needs the most.
  for (const name of ["", "x", "x/y", `${State.typeName}/New`, `${State.typeName}/constructor`, "__proto__/toString"])
    assert.equal(leastRole(name), "Admin");
});

test("every method x role: below its role refused with what is needed, from it on served; what is not built says so", async (t) => {
  const api = await startApi(t);
  for (const role of [undefined, ...roles]) {
    for (const service of services) {
      const client = (await api.client(service as DescService, role)) as Client<DescService>;
      for (const method of service.methods) {
        // Ends the session that the other calls are made with.
        if (method.name === "SignOut" && role) continue;
        const name = `${service.name}/${method.name}`;
        const [least, unbuilt] = expected[name]!.split(" ") as [Role | "anybody", string | undefined];
        const { code, message } = await call(client, method);
        const at = `${role ?? "nobody"} ${name}: ${code} ${message}`;
        if (least === "anybody") assert.match(message, /sign-in link/, at);
        else if (role === undefined)
          assert.deepEqual([code, /sign in first/.test(message)], ["Unauthenticated", true], at);
        else if (!atLeast(role, least)) {
          assert.equal(code, "PermissionDenied", at);
          assert.ok(
            message.includes(`${method.name} needs the role ${least}; "${role.toLowerCase()}@example" has ${role}`),
            at,
          );
        } else if (unbuilt) {
          assert.equal(code, "Unimplemented", at);
          assert.ok(message.length > 0, at);
        } else
          assert.ok(
            ["Ok", "NotFound", "InvalidArgument"].some((one) => one.toLowerCase() === code.toLowerCase()),
            at,
          );
      }
    }
  }
  assert.ok(!api.lines.some((line) => line.startsWith("a call failed unexpectedly")), api.lines.join("\n"));
});

test("signing out ends the session", async (t) => {
  const api = await startApi(t);
  for (const role of roles) {
    const client = await api.client(SessionService, role);
    assert.equal((await client.whoAmI({})).role, role);
    await client.signOut({});
    assert.equal((await outcome(client.whoAmI({}))).code, "Unauthenticated");
  }
});
