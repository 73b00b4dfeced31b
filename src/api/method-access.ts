import { State } from "#gen/cosi/resource/resource_pb.ts";
import { PlaneService, SessionService } from "#gen/ichor/v1/ichor_pb.ts";
import { ManagementService } from "#gen/management/management_pb.ts";
import type { Role } from "#resource/kind.ts";

/** The least role for each method, in one table. What is not named needs Admin. `None` is anybody who signed in. */
const table: Readonly<Record<string, Readonly<Record<string, Role | "anybody">>>> = {
  // Each call is checked again for the kind that it names, by guard/access.ts.
  [State.typeName]: {
    Get: "None",
    List: "None",
    Watch: "None",
    Create: "None",
    Update: "None",
    Destroy: "None",
    Teardown: "None",
    TeardownAndDestroy: "None",
  },
  [SessionService.typeName]: {
    SignIn: "anybody",
    SignOut: "None",
    WhoAmI: "None",
    CreateSignInLink: "Admin",
  },
  [PlaneService.typeName]: {
    Graph: "Reader",
    Status: "Reader",
  },
  [ManagementService.typeName]: {
    Kubeconfig: "Reader",
    Talosconfig: "Reader",
    Omniconfig: "Reader",
    MachineLogs: "Reader",
    ValidateConfig: "Reader",
    ValidateJSONSchema: "Reader",
    GetMachineJoinConfig: "Operator",
    CreateJoinToken: "Admin",
    ResetNodeUniqueToken: "Operator",
    KubernetesUpgradePreChecks: "Operator",
    KubernetesSyncManifests: "Operator",
    CreateSchematic: "Operator",
    CreateSchematicFromRaw: "Operator",
    GetSupportBundle: "Operator",
    MaintenanceUpgrade: "Operator",
    MaintenanceLifecycle: "Operator",
    MachinePowerOff: "Operator",
    MachinePowerOn: "Operator",
    ReadAuditLog: "Auditor",
    CreateServiceAccount: "Admin",
    RenewServiceAccount: "Admin",
    ListServiceAccounts: "Admin",
    DestroyServiceAccount: "Admin",
    CreateUser: "Admin",
    ListUsers: "Admin",
    UpdateUser: "Admin",
    DestroyUser: "Admin",
  },
};

/** Who may call a method, `package.Service/Method`. */
export function leastRole(method: string): Role | "anybody" {
  const [service = "", name = ""] = method.split("/");
  const methods = Object.hasOwn(table, service) ? table[service] : undefined;
  return (methods && Object.hasOwn(methods, name) ? methods[name] : undefined) ?? "Admin";
}
