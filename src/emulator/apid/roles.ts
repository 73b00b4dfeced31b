/** The method table of protocols.md 5.3. Methods that are not here are reads. */
const table: Record<string, readonly string[]> = {};

const machine = "machine.MachineService/";
function grant(roles: string, prefix: string, methods: string): void {
  for (const method of methods.trim().split(/\s+/)) table[prefix + method] = roles.split(" ");
}
grant(
  "os:admin",
  machine,
  `Bootstrap Copy EtcdDowngradeCancel EtcdDowngradeEnable EtcdDowngradeValidate EtcdForfeitLeadership EtcdLeaveCluster EtcdRecover
  EtcdRemoveMemberByID GenerateClientConfiguration Kubeconfig Read Reset Rollback Upgrade ApplyConfiguration`,
);
grant("os:admin", "machine.ImageService/", "Import Remove");
grant("os:admin", "machine.DebugService/", "ContainerRun");
grant("os:admin", "machine.LifecycleService/", "Install Upgrade");
grant("os:admin", "cosi.resource.State/", "Create Update Destroy Teardown TeardownAndDestroy");
grant("os:admin", "storage.StorageService/", "BlockDeviceWipe");
grant("os:admin", "machine.LVMService/", "LogicalVolumeRemove VolumeGroupRemove PhysicalVolumeRemove");
grant("os:admin", "machine.MDService/", "Destroy");
grant(
  "os:admin os:operator",
  machine,
  "EtcdAlarmDisarm EtcdDefragment ImagePull PacketCapture Reboot Restart ServiceStart ServiceStop ServiceRestart Shutdown",
);
grant("os:admin os:operator", "machine.ImageService/", "Pull");
grant("os:admin os:operator os:etcd:backup", machine, "EtcdSnapshot");
grant("os:admin os:operator os:reader os:etcd:backup", machine, "EtcdAlarmList EtcdMemberList EtcdStatus");
grant("os:admin os:meta:writer", machine, "MetaWrite MetaDelete");
grant("os:admin os:operator os:reader os:image:verifier", "machine.ImageService/", "Verify");

/** What a Reader may also do while the machine is in maintenance. */
const maintenanceReader = new Set([
  "machine.MachineService/ApplyConfiguration",
  "storage.StorageService/BlockDeviceWipe",
  "machine.LVMService/LogicalVolumeRemove",
  "machine.LVMService/VolumeGroupRemove",
  "machine.LVMService/PhysicalVolumeRemove",
  "machine.MDService/Destroy",
]);

const readers = ["os:admin", "os:operator", "os:reader"];

/** Whether one of `roles` may call `service/method`. */
export function mayCall(method: string, roles: ReadonlySet<string>, maintenance: boolean): boolean {
  const allowed = table[method] ?? readers;
  if (allowed.some((role) => roles.has(role))) return true;
  return maintenance && maintenanceReader.has(method) && roles.has("os:reader");
}

/** The roles that count: an impersonator's are those it names in `talos-role`. */
export function effectiveRoles(certificate: ReadonlySet<string>, header: string | null): ReadonlySet<string> {
  if (!certificate.has("os:impersonator") || header === null) return certificate;
  return new Set(
    header
      .split(",")
      .map((role) => role.trim())
      .filter((role) => role !== ""),
  );
}

/** Whether an address has the shape of a SideroLink one: byte 0 = fd, byte 7 = 03 (protocols.md 2.2). */
export function isSideroLink(ip: Uint8Array): boolean {
  return ip.length === 16 && ip[0] === 0xfd && ip[7] === 3;
}

const before13 = new Set([
  ...["ApplyConfiguration", "GenerateConfiguration", "Version", "Upgrade", "Reset", "MetaWrite", "MetaDelete"].map(
    (name) => machine + name,
  ),
  "storage.StorageService/Disks",
  "storage.StorageService/BlockDeviceWipe",
  ...["Get", "List", "Watch", "Create", "Update", "Destroy"].map((name) => `cosi.resource.State/${name}`),
]);

/** Whether a machine of that Talos minor has the method at all, in its present mode (protocols.md 5.1, 5.4). */
export function isServed(method: string, minor: number, maintenance: boolean): boolean {
  if (minor < 13 && /^machine\.(ImageService|LifecycleService|DebugService)\//.test(method)) return false;
  if (minor < 14 && /^machine\.(LVMService|MDService)\//.test(method)) return false;
  if (minor < 14 && /^cosi\.resource\.State\/Teardown/.test(method)) return false;
  return !(maintenance && minor < 13) || before13.has(method);
}
