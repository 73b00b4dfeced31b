import assert from "node:assert/strict";
import { test } from "node:test";
import { singular } from "./plural.ts";

test("plurals of every ending that a kind has become singular", () => {
  const words = {
    Disks: "Disk",
    Services: "Service",
    MachineTypes: "MachineType",
    Identities: "Identity",
    NodeAddresses: "NodeAddress",
    MachineStatuses: "MachineStatus",
    ClusterProgresses: "ClusterProgress",
    MachineClasses: "MachineClass",
    ConfigPatches: "ConfigPatch",
    clusterstatuses: "clusterstatus",
  };
  for (const [plural, one] of Object.entries(words)) assert.equal(singular(plural), one);
});

test("a singular stays as it is, where it does not look like a plural", () => {
  for (const one of ["Disk", "Address", "Identity", ""]) assert.equal(singular(one), one);
});
